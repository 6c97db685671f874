package kvc;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringTokenizer;

/** One line of an operation script (docs/SCRIPTS.md). */
final class ScriptLine {
  /** A script that makes no sense. */
  static final class Nonsense extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Nonsense(String message) { super(message); }
  }

  record Count(String name, long count) {}

  record Range(long begin, long end) {}

  final int number;
  final String verb;
  final List<String> names = new ArrayList<>();
  final List<Count> counts = new ArrayList<>();
  final Map<String, String> arguments = new HashMap<>();
  private List<String> expected = List.of("ok");

  private ScriptLine(int number, StringTokenizer words) {
    this.number = number;
    verb = words.nextToken();
    while (words.hasMoreTokens()) {
      String word = words.nextToken();
      int equals = word.indexOf('='), colon = word.indexOf(':');
      if (word.equals("->")) {
        if (words.countTokens() != 1) throw new Nonsense("one word of statuses follows ->");
        expected = Arrays.asList(words.nextToken().split("\\|"));
      } else if (equals >= 0) {
        arguments.put(word.substring(0, equals), word.substring(equals + 1));
      } else if (colon >= 0) {
        counts.add(new Count(word.substring(0, colon), parse(word.substring(colon + 1))));
      } else {
        names.add(word);
      }
    }
  }

  static List<ScriptLine> parseAll(String text) {
    List<ScriptLine> script = new ArrayList<>();
    int number = 0;
    for (String line : text.split("\n", -1)) {
      int comment = line.indexOf('#');
      StringTokenizer words = new StringTokenizer(comment < 0 ? line : line.substring(0, comment), " \t\r");
      number++;
      if (words.hasMoreTokens()) script.add(new ScriptLine(number, words));
    }
    return script;
  }

  boolean expects(Status status) { return expected.contains(status.name().toLowerCase(java.util.Locale.ROOT)); }

  String expected() { return String.join("|", expected); }

  String name(int index) { return index < names.size() ? names.get(index) : ""; }

  boolean has(String key) { return arguments.containsKey(key); }

  long number(String key) { return number(key, 0); }

  long number(String key, long otherwise) { return has(key) ? parse(arguments.get(key)) : otherwise; }

  boolean flag(String key) { return number(key) != 0; }

  double real(String key) { return has(key) ? Double.parseDouble(arguments.get(key)) : 0; }

  String word(String key, String otherwise) { return arguments.getOrDefault(key, otherwise); }

  Range range(String key) {
    if (!has(key)) return new Range(0, 0);
    String[] ends = arguments.get(key).split(":");
    if (ends.length != 2) throw new Nonsense(key + "=" + arguments.get(key) + ": expected begin:end");
    return new Range(parse(ends[0]), parse(ends[1]));
  }

  long[] list(String key) {
    return word(key, "").isEmpty() ? new long[0] : Arrays.stream(word(key, "").split(",")).mapToLong(ScriptLine::parse).toArray();
  }

  private static long parse(String text) {
    try {
      return Long.parseLong(text);
    } catch (NumberFormatException e) {
      throw new Nonsense("\"" + text + "\" is no number");
    }
  }
}
