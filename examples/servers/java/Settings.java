import java.util.Map;
import java.util.TreeMap;

/** The command line. */
record Settings(int port, String folder, String mode, long arenaBytes, String policy, int threads, int maxQueue,
    int writeTimeout) {
  private static final int PORT_MOST = 65535;
  private static final int THREADS_MOST = 257; // the calling one, and as many as the model library starts
  private static final int WRITE_TIMEOUT_MOST = 86400;
  static final String HELP = """
      options, as --name value:
        --port P           loopback port; 0 = a free one (8080)
        --model DIR        folder of the model's files (build/servers/model)
        --mode CODEC       codec of the cache (int4)
        --arena-bytes N    byte budget of the cache (268435456)
        --policy TEXT      what is given up when memory is full (nothing)
        --threads N        threads that compute, 1 to 257 (processors)
        --max-queue N      requests that may wait (64)
        --write-timeout S  seconds after which a client that takes nothing has gone (30)
      """;

  /** Throws IllegalArgumentException, and says which option is wrong. */
  static Settings parse(String[] words) {
    Map<String, String> values = new TreeMap<>(Map.of("--port", "8080", "--model", "build/servers/model", "--mode", "int4",
        "--arena-bytes", "268435456", "--policy", "", "--threads",
        String.valueOf(defaultThreads(Runtime.getRuntime().availableProcessors())), "--max-queue", "64", "--write-timeout", "30"));
    for (int i = 0; i < words.length; i += 2) {
      if (!values.containsKey(words[i])) throw new IllegalArgumentException("no option " + words[i] + "; there are " + values.keySet());
      if (i + 1 == words.length) throw new IllegalArgumentException(words[i] + " needs a value");
      values.put(words[i], words[i + 1]);
    }
    return new Settings((int) number(values, "--port", 0, PORT_MOST), values.get("--model"), values.get("--mode"),
        number(values, "--arena-bytes", 1, Long.MAX_VALUE), values.get("--policy"), (int) number(values, "--threads", 1, THREADS_MOST),
        (int) number(values, "--max-queue", 0, Integer.MAX_VALUE),
        (int) number(values, "--write-timeout", 1, WRITE_TIMEOUT_MOST));
  }

  static int defaultThreads(int processors) { return Math.min(processors, THREADS_MOST); }

  private static long number(Map<String, String> values, String name, long least, long most) {
    String text = values.get(name);
    try {
      long value = Long.parseLong(text);
      if (value >= least && value <= most) return value;
    } catch (NumberFormatException e) {
      // Said below.
    }
    throw new IllegalArgumentException(name + " " + text + ": an integer from " + least + " to " + most);
  }
}
