import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Answers that are sent as a whole. */
final class Answer {
  private Answer() {}

  static void json(HttpExchange exchange, int status, Object body) throws IOException {
    text(exchange, status, "application/json", Json.write(body) + "\n");
  }

  static void text(HttpExchange exchange, int status, String type, String body) throws IOException {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    boolean headOnly = exchange.getRequestMethod().equals("HEAD");
    exchange.getResponseHeaders().set("Content-Type", type);
    exchange.sendResponseHeaders(status, headOnly ? -1 : bytes.length);
    if (headOnly) return;
    try (OutputStream out = exchange.getResponseBody()) {
      out.write(bytes);
    }
  }

  static void refuse(HttpExchange exchange, Refusal why) throws IOException {
    if (why.status == 429) exchange.getResponseHeaders().set("Retry-After", "1");
    json(exchange, why.status, error(why));
  }

  static Map<String, Object> error(Refusal why) {
    Map<String, Object> error = new LinkedHashMap<>();
    error.put("message", why.getMessage());
    error.put("type", why.status == 429 ? "rate_limit_error" : why.status >= 500 ? "server_error" : "invalid_request_error");
    error.put("param", null);
    error.put("code", null);
    return Map.of("error", error);
  }
}
