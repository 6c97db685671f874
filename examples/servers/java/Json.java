import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** JSON (RFC 8259), read to maps, lists, strings, doubles, booleans and null, and written from them. */
final class Json {
  private static final int DEPTH = 500; // of values inside values: the reader calls itself for each
  private static final Pattern NUMBER = Pattern.compile("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?");
  private static final String ESCAPES = "\"\\/bfnrt", ESCAPED = "\"\\/\b\f\n\r\t";

  private final String text;
  private int at, depth;

  private Json(String text) { this.text = text; }

  /** Throws IllegalArgumentException if the text is not exactly one value. */
  static Object read(String text) {
    Json reader = new Json(text);
    Object value = reader.value();
    reader.blanks();
    if (reader.at < text.length()) throw reader.wrong("text follows the value");
    return value;
  }

  private IllegalArgumentException wrong(String what) { return new IllegalArgumentException(what + " at character " + at); }

  private void blanks() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
  }

  private boolean take(String expected) {
    boolean found = text.startsWith(expected, at);
    if (found) at += expected.length();
    return found;
  }

  private Object value() {
    blanks();
    if (take("null")) return null;
    if (take("true")) return true;
    if (take("false")) return false;
    if (take("\"")) return string();
    if (take("{")) return nested(true);
    if (take("[")) return nested(false);
    Matcher number = NUMBER.matcher(text).region(at, text.length());
    if (!number.lookingAt()) throw wrong("no value");
    double value = Double.parseDouble(number.group());
    if (Double.isInfinite(value)) throw wrong("a number that is too large");
    at = number.end();
    return value;
  }

  private Object nested(boolean object) {
    if (++depth > DEPTH) throw wrong("more than " + DEPTH + " values inside each other");
    Object out = object ? members() : elements();
    depth--;
    return out;
  }

  private Map<String, Object> members() {
    Map<String, Object> out = new LinkedHashMap<>();
    blanks();
    if (take("}")) return out;
    do {
      blanks();
      if (!take("\"")) throw wrong("no name");
      String name = string();
      blanks();
      if (!take(":")) throw wrong("no colon");
      out.put(name, value());
      blanks();
    } while (take(","));
    if (!take("}")) throw wrong("no comma or brace");
    return out;
  }

  private List<Object> elements() {
    List<Object> out = new ArrayList<>();
    blanks();
    if (take("]")) return out;
    do {
      out.add(value());
      blanks();
    } while (take(","));
    if (!take("]")) throw wrong("no comma or bracket");
    return out;
  }

  private String string() {
    StringBuilder out = new StringBuilder();
    while (!take("\"")) {
      if (at == text.length() || text.charAt(at) < ' ') throw wrong("a string without end, or with a control character,");
      char c = text.charAt(at++);
      out.append(c == '\\' ? escaped() : c);
    }
    return whole(out);
  }

  private char escaped() {
    if (take("u")) {
      if (at + 4 > text.length() || !text.substring(at, at + 4).matches("[0-9a-fA-F]{4}")) throw wrong("no four hexadecimal digits");
      at += 4;
      return (char) Integer.parseInt(text.substring(at - 4, at), 16);
    }
    int known = at < text.length() ? ESCAPES.indexOf(text.charAt(at)) : -1;
    if (known < 0) throw wrong("an unknown escape");
    at++;
    return ESCAPED.charAt(known);
  }

  /** Half a surrogate pair, which an escape can spell, is no character. */
  private String whole(StringBuilder text) {
    if (text.codePoints().anyMatch(c -> c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE))
      throw wrong("half of a surrogate pair");
    return text.toString();
  }

  static String write(Object value) {
    StringBuilder out = new StringBuilder();
    write(value, out);
    return out.toString();
  }

  private static void write(Object value, StringBuilder out) {
    if (value instanceof String text) {
      quote(text, out);
    } else if (value instanceof Map<?, ?> map) {
      String between = "{";
      for (Map.Entry<?, ?> entry : map.entrySet()) {
        quote((String) entry.getKey(), out.append(between));
        write(entry.getValue(), out.append(':'));
        between = ",";
      }
      out.append(map.isEmpty() ? "{}" : "}");
    } else if (value instanceof List<?> list) {
      String between = "[";
      for (Object element : list) {
        write(element, out.append(between));
        between = ",";
      }
      out.append(list.isEmpty() ? "[]" : "]");
    } else if (value == null || value instanceof Boolean || value instanceof Integer || value instanceof Long) {
      out.append(value);
    } else {
      throw new IllegalArgumentException("no form for " + value.getClass());
    }
  }

  private static void quote(String text, StringBuilder out) {
    out.append('"');
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') out.append('\\').append(c);
      else if (c < ' ') out.append(String.format("\\u%04x", (int) c));
      else out.append(c);
    }
    out.append('"');
  }
}
