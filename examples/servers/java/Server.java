import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import kvc.KvcException;

/** Routes requests to their answers. Each connection that asks something has a thread of its own meanwhile. */
final class Server {
  private static final Pattern DIGITS = Pattern.compile("[0-9]{1,18}");
  private final Engine engine;
  private final Completions completions;
  private final HttpServer http;
  private final Map<String, Object> model =
      Map.of("id", Completions.MODEL, "object", "model", "created", Instant.now().getEpochSecond(), "owned_by", "kvc");
  private final AtomicInteger open = new AtomicInteger(); // requests that are being answered

  /** Listens on loopback. */
  Server(Engine engine, Settings set) throws IOException {
    this.engine = engine;
    completions = new Completions(engine, set.writeTimeout());
    System.setProperty("sun.net.httpserver.nodelay", "true"); // each token is sent when it is there
    System.setProperty("sun.net.httpserver.maxReqTime", "10"); // seconds in which a request must have come
    // Read behind an answer, so that a client that has written too much reads why it is refused, not a reset.
    System.setProperty("sun.net.httpserver.drainAmount", String.valueOf(2 * Completions.BODY_BYTES_MOST));
    http = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), set.port()), 0);
    http.setExecutor(Executors.newCachedThreadPool());
    http.createContext("/", this::handle);
  }

  void start() { http.start(); }

  int port() { return http.getAddress().getPort(); }

  /** Waits for the last answers; true if none is left under way. */
  boolean stop(long millis) throws InterruptedException {
    long until = System.nanoTime() + millis * 1_000_000;
    while (open.get() > 0 && System.nanoTime() < until) Thread.sleep(5);
    http.stop(0);
    return open.get() == 0;
  }

  private void handle(HttpExchange exchange) throws IOException {
    open.incrementAndGet();
    try {
      try {
        route(exchange);
      } catch (Refusal e) {
        Answer.refuse(exchange, e);
      } catch (KvcException | OutOfMemoryError | InterruptedException e) {
        Answer.refuse(exchange, Refusal.failed(e));
      }
    } finally {
      exchange.close();
      open.decrementAndGet();
    }
  }

  private void route(HttpExchange exchange) throws IOException, Refusal, InterruptedException {
    URI target = exchange.getRequestURI();
    String path = target.getRawFragment() == null ? target.getRawPath() : target.toString();
    checkHead(exchange);
    switch (path) {
      case "/v1/completions":
        allow(exchange, "POST");
        completions.answer(exchange);
        break;
      case "/v1/models":
        allow(exchange, "GET");
        Answer.json(exchange, 200, Map.of("object", "list", "data", List.of(model)));
        break;
      case "/metrics":
        allow(exchange, "GET");
        Answer.text(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", Metrics.of(engine));
        break;
      case "/healthz":
        allow(exchange, "GET");
        if (engine.closing()) throw Refusal.shutdown();
        Answer.json(exchange, 200, Map.of("status", "ok"));
        break;
      default: throw new Refusal(404, "there is no " + path);
    }
  }

  // What the library takes and HTTP/1.1 does not.
  private static void checkHead(HttpExchange exchange) throws Refusal {
    Headers headers = exchange.getRequestHeaders();
    String length = headers.getFirst("Content-Length");
    if (length != null && !DIGITS.matcher(length).matches()) throw Refusal.invalid("Content-Length is no number"); // +1
    List<String> hosts = headers.getOrDefault("Host", List.of());
    if (hosts.size() > 1 || hosts.isEmpty() && !exchange.getProtocol().equals("HTTP/1.0"))
      throw Refusal.invalid(hosts.size() + " Host fields were given; it must be one");
    for (List<String> values : headers.values())
      for (String value : values)
        if (value.indexOf('\0') >= 0) throw Refusal.invalid("a header field is malformed");
  }

  private static void allow(HttpExchange exchange, String method) throws Refusal {
    if (exchange.getRequestMethod().equals(method)) return;
    exchange.getResponseHeaders().set("Allow", method);
    throw new Refusal(405, exchange.getRequestMethod() + " " + exchange.getRequestURI().getRawPath() + ": only " + method + " is allowed");
  }
}
