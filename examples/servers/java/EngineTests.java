import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.CacheStats;

/** What the black-box test does not reach: java EngineTests MODEL-FOLDER */
final class EngineTests {
  private static final int TEXT_TOKENS = 150;
  private static final String PROMPT =
      "<|im_start|>user\nTell me a long story about a river, a mill and a miller's daughter.<|im_end|>\n<|im_start|>assistant\n";

  private EngineTests() {}

  public static void main(String[] words) throws Exception {
    systemPromptsEndBehindTheirMark();
    jsonIsReadStrictly();
    threadsAreAsManyAsProcessorsAndTheModelLibraryAllow();
    closedConnectionsAreSeen();
    try (Model model = new Model(words[0], 2)) {
      aPromptWithoutTokensIsRefused(model);
      preemptedStreamsGoOnAsIfNothingHadHappened(model);
    }
    System.out.println("EngineTests: 6 passed");
  }

  private static void expect(boolean holds, String what) {
    if (!holds) throw new AssertionError(what);
  }

  /** An engine over fp16 pages, whose admission lets in so many times what fits. */
  private static final class Started implements AutoCloseable {
    final Engine engine;

    Started(Model model, long arenaBytes, double times) {
      Cache cache = new Cache(options(model, arenaBytes));
      Policy policy = new Policy("", false, 0, times, "fp16");
      engine = new Engine(model, cache, new Admission(options(model, arenaBytes), policy, model.context, arenaBytes), 0);
      new Thread(engine, "engine").start();
    }

    private static CacheOptions options(Model model, long arenaBytes) {
      return new CacheOptions().layers(model.layers).kvHeads(model.kvHeads).qHeads(model.qHeads).kDim(model.headDim).codec("fp16")
          .arenaBytes(arenaBytes).threads(1).contextTokens(model.context);
    }

    Stream submit() throws Refusal {
      byte[] text = PROMPT.getBytes(StandardCharsets.UTF_8);
      long[] tokens = new long[text.length];
      int n = (int) engine.model.encode(text, tokens);
      Stream stream = new Stream(Arrays.copyOf(tokens, n), TEXT_TOKENS, 0);
      engine.submit(stream);
      return stream;
    }

    @Override
    public void close() {
      engine.shutdown(1000);
      CacheStats stats = engine.cache.stats();
      expect(stats.sequences() == 0 && stats.recordBytes() == 0, "left behind: " + stats);
      engine.cache.close();
    }
  }

  private static String text(Stream stream) throws Exception {
    StringBuilder out = new StringBuilder();
    while (true) {
      Stream.Event event = stream.events.poll(2, TimeUnit.MINUTES);
      expect(event != null, "no event for two minutes");
      if (event.refusal() != null) throw event.refusal();
      out.append(event.text());
      if (event.finish() != null) return out.toString();
    }
  }

  /** Admission that lets in too many makes streams lose their sequences; what they write stays the same. */
  private static void preemptedStreamsGoOnAsIfNothingHadHappened(Model model) throws Exception {
    final long room = 12 << 20; // two of the streams
    String expected;
    try (Started alone = new Started(model, room, 1)) {
      expected = text(alone.submit());
      expect(expected.length() >= 200 && alone.engine.count.preempted.get() == 0, "alone: " + expected);
    }
    try (Started crowded = new Started(model, room, 2)) {
      List<Stream> streams = new ArrayList<>();
      for (int i = 0; i < 4; i++) streams.add(crowded.submit());
      for (Stream stream : streams) {
        String got = text(stream);
        expect(got.equals(expected), "stream " + streams.indexOf(stream) + ": " + got + ", alone " + expected);
      }
      expect(crowded.engine.count.preempted.get() > 0, "nothing was preempted: the test is too small");
    }
  }

  private static void aPromptWithoutTokensIsRefused(Model model) {
    try (Started started = new Started(model, 12 << 20, 1)) {
      started.engine.submit(new Stream(new long[0], 1, 0));
      throw new AssertionError("it was taken");
    } catch (Refusal expected) {
      expect(expected.status == 400, expected.getMessage());
    }
  }

  private static void systemPromptsEndBehindTheirMark() {
    long[] opening = {1, 9};
    int[][] cases = {{70, 100, 72}, {62, 100, 64}, {61, 100, 0}, {70, 72, 0}, {70, 73, 72}, {200, 100, 0}}; // mark, length, expected
    for (int[] one : cases) {
      long[] tokens = new long[one[1]];
      System.arraycopy(opening, 0, tokens, 0, 2);
      if (one[0] < one[1]) tokens[one[0]] = 2;
      int got = Stream.systemTokens(tokens, opening, 2);
      expect(got == one[2], "mark at " + one[0] + " of " + one[1] + ": " + got + " tokens");
      expect(Stream.systemTokens(tokens, new long[] {1, 8}, 2) == 0, "another opening");
    }
  }

  private static void threadsAreAsManyAsProcessorsAndTheModelLibraryAllow() {
    int[] got = {Settings.defaultThreads(2), Settings.defaultThreads(257), Settings.defaultThreads(300)};
    expect(Arrays.equals(got, new int[] {2, 257, 257}), "threads: " + Arrays.toString(got));
  }

  private static void jsonIsReadStrictly() {
    String text = "{\"a\":[1,-2.5e3,true,false,null,{}],\"b\":\"\\u00e9\\ud83d\\ude00\\n\\\"\",\"a\":[]}";
    expect(Json.read(text).toString().equals("{a=[], b=\u00e9\ud83d\ude00\n\"}"), "read " + Json.read(text));
    expect(Json.read(" [1, 2] ").equals(List.of(1.0, 2.0)), "an array");
    expect(Json.write(Json.read("[\"\\u0001\\\\\",true,null,{\"a\":[]}]")).equals("[\"\\u0001\\\\\",true,null,{\"a\":[]}]"), "written");
    String[] wrong = {"", "01", "1.", ".5", "+1", "1e999", "NaN", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "\"a",
        "\"\t\"", "\"\\x\"", "\"\\u12g4\"",
        "\"\\u1", "\"\\ud83d!\"", "\"\\ude00\\ud83d\"", "nul", "[1] 2", "\ufeff1", "[".repeat(100_000)};
    for (String one : wrong) {
      try {
        Object value = Json.read(one);
        throw new AssertionError(one + " was read as " + value);
      } catch (IllegalArgumentException expected) {
        continue;
      }
    }
  }

  /** Of three clients that wait for an answer one closes, one dies and one stays. */
  private static void closedConnectionsAreSeen() throws Exception {
    Clients clients = new Clients(30);
    List<Stream> streams = new ArrayList<>();
    CountDownLatch end = new CountDownLatch(1);
    HttpServer http = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    http.setExecutor(task -> new Thread(task).start());
    http.createContext("/", exchange -> hold(exchange, clients, streams, end));
    http.start();
    Socket closes = ask(http, streams), dies = ask(http, streams), stays = ask(http, streams);
    try {
      closes.close();
      dies.setSoLinger(true, 0);
      dies.close();
      for (int i = 0; i < 100 && !(streams.get(0).gone() && streams.get(1).gone()); i++) Thread.sleep(50);
      expect(streams.get(0).gone(), "a client that closed was not seen");
      expect(streams.get(1).gone(), "a client that died was not seen");
      expect(!streams.get(2).gone(), "a client that waits is gone");
    } finally {
      stays.close();
      end.countDown();
      http.stop(0);
    }
  }

  private static void hold(HttpExchange exchange, Clients clients, List<Stream> streams, CountDownLatch end) throws IOException {
    Stream stream = new Stream(new long[1], 1, 0);
    clients.remember(stream, exchange);
    synchronized (streams) {
      streams.add(stream);
      streams.notifyAll();
    }
    try {
      end.await();
    } catch (InterruptedException e) {
      throw new IOException(e);
    }
    exchange.close();
  }

  /** Returns when the server has the request. */
  private static Socket ask(HttpServer http, List<Stream> streams) throws Exception {
    Socket socket = new Socket(http.getAddress().getAddress(), http.getAddress().getPort());
    synchronized (streams) {
      int before = streams.size();
      socket.getOutputStream().write("GET / HTTP/1.1\r\nHost: a\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
      for (int i = 0; i < 100 && streams.size() == before; i++) streams.wait(100);
      expect(streams.size() > before, "a request did not arrive");
    }
    return socket;
  }
}
