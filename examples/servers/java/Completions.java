import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** POST /v1/completions. */
final class Completions {
  static final String MODEL = "smollm2-135m";
  static final int BODY_BYTES_MOST = 1 << 20;
  private final Engine engine;
  private final Clients clients;
  private final long[] opening; // tokens that begin a system prompt
  private final long ending; // the token that ends it
  private final AtomicLong ids = new AtomicLong();

  /** @param writeTimeout seconds after which a client that takes nothing has gone */
  Completions(Engine engine, int writeTimeout) {
    this.engine = engine;
    clients = new Clients(writeTimeout);
    opening = encoded("<|im_start|>system");
    ending = encoded("<|im_end|>")[0];
  }

  private long[] encoded(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    long[] tokens = new long[bytes.length];
    return Arrays.copyOf(tokens, (int) engine.model.encode(bytes, tokens));
  }

  /** Answers, or says what to refuse with before anything was written. */
  void answer(HttpExchange exchange) throws IOException, Refusal, InterruptedException {
    Asked asked = Asked.parse(body(exchange));
    long[] tokens = promptTokens(asked);
    Stream stream = new Stream(tokens, asked.maxTokens(), Stream.systemTokens(tokens, opening, ending));
    clients.remember(stream, exchange);
    try {
      engine.submit(stream);
      Stream.Event first = stream.events.take();
      if (stream.gone()) return;
      if (first.refusal() != null) throw first.refusal();
      if (asked.stream()) sendStream(exchange, stream);
      else sendWhole(exchange, stream);
    } catch (IOException e) {
      stream.leave(); // it could not be written
    } finally {
      clients.forget(stream);
    }
  }

  // What a client said that it would send is not waited for if it is too much.
  private static byte[] body(HttpExchange exchange) throws Refusal {
    String length = exchange.getRequestHeaders().getFirst("Content-Length");
    if (length != null && Long.parseLong(length) > BODY_BYTES_MOST) throw tooLarge();
    byte[] body;
    try {
      body = exchange.getRequestBody().readNBytes(BODY_BYTES_MOST + 1);
    } catch (IOException e) {
      throw Refusal.invalid("the body cannot be read: " + e.getMessage()); // a client that has gone hears nothing
    }
    if (body.length > BODY_BYTES_MOST) throw tooLarge();
    return body;
  }

  private static Refusal tooLarge() { return new Refusal(413, "the body has more than " + BODY_BYTES_MOST + " bytes"); }

  private long[] promptTokens(Asked asked) throws Refusal {
    byte[] text = asked.prompt().getBytes(StandardCharsets.UTF_8);
    int most = engine.model.context;
    if (text.length > engine.model.promptBytes)
      throw Refusal.invalid("a prompt of " + text.length + " bytes is longer than the model's context, which holds "
          + engine.model.promptBytes + " at most");
    long[] tokens = new long[Math.min(text.length, most)];
    long n = engine.model.encode(text, tokens);
    if (n + asked.maxTokens() > most)
      throw Refusal.invalid(n + " tokens of prompt and " + asked.maxTokens() + " of max_tokens are more than the model's context of "
          + most);
    return Arrays.copyOf(tokens, (int) n);
  }

  private void sendWhole(HttpExchange exchange, Stream stream) throws IOException, Refusal, InterruptedException {
    StringBuilder text = new StringBuilder();
    while (true) {
      Stream.Event event = stream.events.take();
      if (stream.gone()) return;
      if (event.refusal() != null) throw event.refusal();
      text.append(event.text());
      if (event.finish() == null) continue;
      Map<String, Object> body = head();
      body.put("choices", choice(text.toString(), event.finish()));
      Map<String, Object> usage = new LinkedHashMap<>();
      usage.put("prompt_tokens", stream.prompt);
      usage.put("completion_tokens", stream.written());
      usage.put("total_tokens", stream.prompt + stream.written());
      body.put("usage", usage);
      Answer.json(exchange, 200, body);
      return;
    }
  }

  private void sendStream(HttpExchange exchange, Stream stream) throws IOException, InterruptedException {
    exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
    exchange.getResponseHeaders().set("Cache-Control", "no-cache");
    exchange.sendResponseHeaders(200, 0);
    OutputStream out = exchange.getResponseBody();
    out.flush();
    Map<String, Object> body = head();
    while (true) {
      Stream.Event event = stream.events.take();
      if (stream.gone()) return;
      if (event.refusal() != null) {
        send(out, Json.write(Answer.error(event.refusal())));
        return;
      }
      if (!event.text().isEmpty() || event.finish() != null) {
        body.put("choices", choice(event.text(), event.finish()));
        send(out, Json.write(body));
      }
      if (event.finish() != null) {
        send(out, "[DONE]");
        return;
      }
    }
  }

  private static void send(OutputStream out, String data) throws IOException {
    out.write(("data: " + data + "\n\n").getBytes(StandardCharsets.UTF_8));
    out.flush();
  }

  private Map<String, Object> head() {
    Map<String, Object> head = new LinkedHashMap<>();
    head.put("id", "cmpl-" + ids.incrementAndGet());
    head.put("object", "text_completion");
    head.put("created", Instant.now().getEpochSecond());
    head.put("model", MODEL);
    return head;
  }

  private static List<Object> choice(String text, String finish) {
    Map<String, Object> choice = new LinkedHashMap<>();
    choice.put("text", text);
    choice.put("index", 0);
    choice.put("logprobs", null);
    choice.put("finish_reason", finish);
    return List.of(choice);
  }
}
