import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** The part of a request's body that matters. */
record Asked(String prompt, int maxTokens, boolean stream) {
  private static final int MAX_TOKENS = 16;

  static Asked parse(byte[] body) throws Refusal {
    Map<?, ?> fields = object(body);
    for (String name : new String[] {"stop", "suffix", "logprobs"})
      if (fields.get(name) != null) throw Refusal.invalid(name + " is not offered");
    if (fields.get("echo") != null && !Boolean.FALSE.equals(fields.get("echo"))) throw Refusal.invalid("echo is not offered");
    only(fields, "temperature", 0);
    only(fields, "n", 1);
    only(fields, "best_of", 1);
    Object stream = fields.get("stream");
    if (stream != null && !(stream instanceof Boolean)) throw Refusal.invalid("stream must be a boolean");
    if (!(fields.get("prompt") instanceof String prompt) || prompt.isEmpty())
      throw Refusal.invalid("prompt is required, a string that is not empty");
    return new Asked(prompt, maxTokens(fields.get("max_tokens")), Boolean.TRUE.equals(stream));
  }

  private static Map<?, ?> object(byte[] body) throws Refusal {
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString();
      if (Json.read(text) instanceof Map<?, ?> fields) return fields;
      throw Refusal.invalid("the body is not a JSON object");
    } catch (CharacterCodingException e) {
      throw Refusal.invalid("the body is not UTF-8");
    } catch (IllegalArgumentException e) {
      throw Refusal.invalid("the body is not a JSON object: " + e.getMessage());
    }
  }

  private static void only(Map<?, ?> fields, String name, int value) throws Refusal {
    Object found = fields.get(name);
    if (found != null && !(found instanceof Double number && number == value))
      throw Refusal.invalid(name + " must be " + value + ": text is greedy");
  }

  private static int maxTokens(Object found) throws Refusal {
    if (found == null) return MAX_TOKENS;
    if (found instanceof Double number && number >= 1 && number <= Integer.MAX_VALUE && number == Math.rint(number))
      return number.intValue();
    throw Refusal.invalid("max_tokens must be an integer from 1");
  }
}
