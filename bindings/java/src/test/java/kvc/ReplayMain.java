package kvc;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** replay_java [target=T] [threads=N] FILE...: prints the digest of each operation script, as sha256sum would. */
final class ReplayMain {
  private ReplayMain() {}

  public static void main(String[] arguments) {
    String target = "";
    long threads = 0;
    List<String> files = new ArrayList<>();
    for (String argument : arguments) {
      if (argument.startsWith("target=")) target = argument.substring(7);
      else if (argument.startsWith("threads=")) threads = Long.parseLong(argument.substring(8));
      else files.add(argument);
    }
    if (files.isEmpty()) {
      System.err.println("usage: replay_java [target=T] [threads=N] FILE...");
      System.exit(2);
    }
    boolean failed = false;
    for (String file : files) {
      String digest = replay(file, target, threads);
      if (digest != null) System.out.println(digest + "  " + file);
      failed |= digest == null;
    }
    System.out.flush();
    System.exit(failed ? 1 : 0);
  }

  /** The digest of a file, or null once it was said what is wrong. */
  private static String replay(String file, String target, long threads) {
    int number = 0;
    try (Replay replay = new Replay(target, threads)) {
      for (ScriptLine line : ScriptLine.parseAll(Files.readString(Path.of(file)))) {
        number = line.number;
        String wrong = replay.run(line);
        if (wrong != null) {
          System.err.println(file + ":" + number + ": " + wrong);
          return null;
        }
      }
      return replay.digest();
    } catch (IOException | RuntimeException e) {
      System.err.println(file + ":" + number + ": " + e);
      return null;
    }
  }
}
