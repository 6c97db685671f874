package kvc;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** How a program of a user's own finds the library, in JVMs of their own; the README's program and the examples among them. */
final class LibraryTests {
  private static final String OUT = System.getProperty("kvc.out");

  private record Ended(int status, String printed) {}

  private static Ended java(String... arguments) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"));
    if (Runtime.version().feature() >= 22) command.add("--enable-native-access=ALL-UNNAMED");
    command.addAll(List.of(arguments));
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().remove("LD_LIBRARY_PATH");
    Process process = builder.start();
    String printed = new String(process.getInputStream().readAllBytes());
    return new Ended(process.waitFor(), printed);
  }

  private static String[] main(String classPath, String property, String... main) {
    List<String> arguments = new ArrayList<>(List.of("-Djava.library.path=/nowhere"));
    if (!property.isEmpty()) arguments.add(property);
    arguments.addAll(List.of("-cp", classPath));
    arguments.addAll(List.of(main));
    return arguments.toArray(new String[0]);
  }

  static void theErrorListsEveryPlaceTried() throws Exception {
    Ended ended = java(main(OUT + "/java", "", "kvc.ReplayMain", "target=scalar", "none"));
    Expect.that(ended.status != 0, "it ran without a library");
    for (String place : List.of("property kvc.library.path: not set", "java.library.path: /nowhere", "jar /linux/", "is not in it"))
      Expect.that(ended.printed.contains(place), place + " is missing in:\n" + ended.printed);
  }

  static void aFolderThatWasAskedForIsNotReplaced() throws Exception {
    Ended ended = java(main(OUT + "/kvc.jar" + File.pathSeparator + OUT + "/java", "-Dkvc.library.path=/nowhere/else", "kvc.ReplayMain", "none"));
    Expect.that(ended.status != 0 && ended.printed.contains("/nowhere/else/libkvc_java.so"), ended.printed);
    Expect.that(!ended.printed.contains("jar /linux"), ended.printed);
  }

  static void theFolderOfThePropertyIsTaken() throws Exception {
    Path folder = Files.createTempDirectory("kvc-folder-");
    Path bridge = Files.copy(Path.of(OUT, "libkvc_java.so"), folder.resolve("libkvc_java.so"));
    Path library = Files.copy(Path.of(OUT, "prefix/lib/libkvc.so.1"), folder.resolve("libkvc.so.1"));
    try {
      Ended ended = java(main(OUT + "/java", "-Dkvc.library.path=" + folder, "kvc.TestMain", "HotPathTests"));
      Expect.that(ended.status == 0 && ended.printed.contains("0 failed"), ended.printed);
    } finally {
      for (Path path : List.of(bridge, library, folder)) Files.delete(path);
    }
  }

  static void theJarNeedsNothingElse() throws Exception {
    Path temporary = Files.createTempDirectory("kvc-temporary-");
    try {
      Ended ended = java(main(OUT + "/kvc.jar" + File.pathSeparator + OUT + "/java-examples", "-Djava.io.tmpdir=" + temporary, "BudgetEvict"));
      Expect.equal(expected("budget_evict"), ended.printed);
      Expect.equal(0, ended.status);
    } finally {
      Files.delete(temporary); // fails if anything was left there
    }
  }

  static void unknownWaysOfCallingAreRefused() throws Exception {
    Ended ended = java(main(OUT + "/kvc.jar" + File.pathSeparator + OUT + "/java-examples", "-Dkvc.calls=fast", "AppendAttend"));
    Expect.that(ended.status != 0 && ended.printed.contains("kvc.calls is fast"), ended.printed);
  }

  static void theExamplesPrintWhatTheyPrintInEveryLanguage() throws Exception {
    String[][] examples = {{"AppendAttend", "append_attend"}, {"Devices", "devices"}, {"PrefixFork", "prefix_fork"}, {"Snapshot", "snapshot"}};
    for (String[] example : examples) {
      Ended ended = java(main(OUT + "/kvc.jar" + File.pathSeparator + OUT + "/java-examples", "", example[0]));
      Expect.equal(expected(example[1]), ended.printed);
      Expect.equal(0, ended.status);
    }
  }

  private static String expected(String example) throws IOException {
    return Files.readString(Path.of(System.getProperty("kvc.root"), "bindings/examples/" + example + ".txt"));
  }

  static void theReadmeRunsAsPrinted() throws Exception {
    String readme = Files.readString(Path.of(System.getProperty("kvc.root"), "bindings/java/README.md"));
    Matcher snippet = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(readme);
    Path folder = Files.createTempDirectory("kvc-readme-"), file = folder.resolve("Snippet.java");
    try {
      // The second one prints the first line on a machine with a device.
      for (List<String> printed : List.of(List.of("1 token\n"), List.of("room for one token of one sequence of up to 4096\n", "graph_create: "
          + "the cache is on the host, where no launches can be captured\n"))) {
        Expect.that(snippet.find(), "the README lacks a snippet");
        Files.writeString(file, snippet.group(1));
        Ended ended = java(main(OUT + "/kvc.jar", "", file.toString()));
        Expect.that(printed.contains(ended.printed), ended.printed);
      }
    } finally {
      Files.deleteIfExists(file);
      Files.delete(folder);
    }
  }
}
