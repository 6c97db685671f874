package kvc;

import java.io.IOException;
import java.lang.reflect.Method;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Everything that kvc.h declares has its place in the classes. */
final class CoverageTests {
  static final Map<String, Class<?>> STRUCTS = Map.ofEntries(Map.entry("kvc_error", KvcException.class),
      Map.entry("kvc_options", CacheOptions.class), Map.entry("kvc_layer", LayerOptions.class), Map.entry("kvc_plan_request", PlanRequest.class),
      Map.entry("kvc_plan", Plan.class), Map.entry("kvc_seq_options", SequenceOptions.class), Map.entry("kvc_step_options", StepOptions.class),
      Map.entry("kvc_attend_options", AttendOptions.class), Map.entry("kvc_evict_options", EvictOptions.class),
      Map.entry("kvc_evict_report", EvictReport.class), Map.entry("kvc_prefix_options", PrefixOptions.class),
      Map.entry("kvc_prefix_hit", PrefixHit.class), Map.entry("kvc_prefix_stats", PrefixStats.class), Map.entry("kvc_merge_options", MergeOptions.class),
      Map.entry("kvc_step_down_options", StepDownOptions.class), Map.entry("kvc_step_down_report", StepDownReport.class),
      Map.entry("kvc_stats", CacheStats.class), Map.entry("kvc_seq_stats", SequenceStats.class));
  static final Map<String, Class<? extends Enum<?>>> ENUMS = Map.of("kvc_status", Status.class, "kvc_dtype", StepOptions.Dtype.class,
      "kvc_device", Device.class, "kvc_part", Sequence.Part.class, "kvc_rope_pairs", CacheOptions.RopePairs.class, "kvc_keys",
      CacheOptions.Keys.class, "kvc_positions", CacheOptions.Positions.class, "kvc_cut", Sequence.Cut.class, "kvc_buffer_kind", DeviceBuffer.Kind.class);
  /** Bookkeeping of C, the callbacks that no managed code serves, and values that mean "not said". */
  static final Set<String> LEFT_OUT = Set.of("struct_size", "reserved", "allocate", "release", "allocator_context", "KVC_PART_UNSET",
      "KVC_BUFFER_UNSET");

  static void allFunctionsAreCalled() throws IOException {
    String header = Files.readString(Path.of(System.getProperty("kvc.root"), "kvc.h"));
    StringBuilder classes = new StringBuilder();
    try (Stream<Path> sources = Files.list(Path.of(System.getProperty("kvc.root"), "bindings/java/src/main/java/kvc"))) {
      for (Path source : sources.filter(file -> file.toString().endsWith(".java")).toList()) classes.append(code(source));
    }
    Set<String> missing = new TreeSet<>();
    Matcher functions = Pattern.compile("^KVC_API [^(]*?\\b(kvc_\\w+)\\(", Pattern.MULTILINE).matcher(header);
    int count = 0;
    while (functions.find()) {
      count++;
      String name = functions.group(1);
      boolean called = Pattern.compile("\\b" + name + "\\(|::" + name + "\\b").matcher(classes).find();
      if (!called && !name.endsWith("_init")) missing.add(name); // the raw structs call _init when they are made
    }
    Expect.that(count > 60, "kvc.h was not understood: " + count + " functions");
    Expect.equal(Set.of(), missing);
  }

  /** All else goes through SWIG's own class, whose types and sizes come from kvc.h. */
  static void noOtherWaysIntoC() throws IOException {
    Set<String> downcalls = new TreeSet<>(), others = new TreeSet<>();
    String method = "\\bnative\\s+[\\w.<>\\[\\],?&\\s]+\\(";
    int raw = 0, handles = 0;
    for (String folder : List.of("java/src/main/java", "java/src/main/java22", "java/generated")) {
      try (Stream<Path> sources = Files.walk(Path.of(System.getProperty("kvc.root"), "bindings", folder))) {
        for (Path source : sources.filter(file -> file.toString().endsWith(".java")).toList()) {
          String name = source.getFileName().toString(), code = code(source);
          if (name.equals("kvcJNI.java")) raw += count(method, code);
          else if (count(method, code) > 0) others.add(name + ": native");
          if (name.equals("FfmCalls.java")) {
            handles = count("\\bdowncallHandle\\b", code);
            Matcher named = Pattern.compile("\\bkvc\\.(\\w+)_function\\(\\)").matcher(code);
            while (named.find()) downcalls.add(named.group(1));
          } else if (count("\\bdowncallHandle\\b|\\bupcallStub\\b", code) > 0) {
            others.add(name + ": FFM");
          }
        }
      }
    }
    Expect.that(raw > 300, "SWIG's class was not understood: " + raw + " native methods");
    Expect.equal(Set.of(), others);
    Expect.equal(1, handles);
    Expect.equal(Set.of("kvc_append", "kvc_attend"), downcalls);
  }

  /** Without comments. */
  private static String code(Path source) throws IOException { return Files.readString(source).replaceAll("(?s)/\\*.*?\\*/|//[^\n]*", ""); }

  private static int count(String pattern, String code) { return (int) Pattern.compile(pattern).matcher(code).results().count(); }

  static void allFieldsHaveAPlace() {
    Set<String> missing = new TreeSet<>();
    Set<String> structs = new HashSet<>();
    for (String line : Kvc.abiDescription().split("\n")) {
      if (!line.startsWith("struct ")) continue;
      String struct = line.split(" ")[1];
      structs.add(struct);
      Class<?> type = STRUCTS.get(struct);
      if (type == null) {
        missing.add(struct);
        continue;
      }
      Set<String> members = Stream.concat(Arrays.stream(type.getMethods()).map(Method::getName),
          type.isRecord() ? Arrays.stream(type.getRecordComponents()).map(RecordComponent::getName) : Stream.empty()).collect(Collectors.toSet());
      Matcher fields = Pattern.compile("; field (\\w+)").matcher(line);
      while (fields.find()) {
        String field = fields.group(1);
        if (!LEFT_OUT.contains(field) && !members.contains(member(struct, field))) missing.add(struct + "." + field);
      }
    }
    Expect.equal(STRUCTS.keySet(), structs);
    Expect.equal(Set.of(), missing);
  }

  /** k_token_stride is kTokenStride; layer_begin and layer_end are layers; an exception calls its message as all do. */
  static String member(String struct, String field) {
    if (struct.equals("kvc_error") && field.equals("message")) return "getMessage";
    if (field.endsWith("_begin") || field.endsWith("_end")) return field.substring(0, field.lastIndexOf('_')) + "s";
    String[] words = field.split("_");
    return words[0] + Arrays.stream(words).skip(1).map(word -> Character.toUpperCase(word.charAt(0)) + word.substring(1)).collect(Collectors.joining());
  }

  static void allEnumeratorsHaveAConstant() throws ReflectiveOperationException {
    Set<String> expected = new TreeSet<>(), found = new TreeSet<>();
    for (String line : Kvc.abiDescription().split("\n")) {
      String[] words = line.split(" ");
      if (words[0].equals("enum") && !LEFT_OUT.contains(words[2]) && !words[2].endsWith("_MAX_")) expected.add(words[1] + " " + words[2]);
    }
    for (Map.Entry<String, Class<? extends Enum<?>>> entry : ENUMS.entrySet()) {
      var raw = entry.getValue().getDeclaredField("raw");
      raw.setAccessible(true);
      for (Object constant : entry.getValue().getEnumConstants()) found.add(entry.getKey() + " " + raw.get(constant));
    }
    Expect.that(expected.size() > 30, "the description was not understood: " + expected);
    Expect.equal(expected, found);
  }

  static void eachStatusHasItsException() {
    Set<Class<?>> types = new HashSet<>();
    for (Status status : Status.values()) {
      if (status == Status.OK) continue;
      KvcException e = KvcException.of(status.code(), "kvc_append", "why");
      Expect.equal(status, e.status());
      Expect.equal("kvc_append", e.operation());
      Expect.equal("why", e.getMessage());
      Expect.equal("KVC_E_" + status, status.cName());
      Expect.equal(status.name().replace("_", "").toLowerCase(), e.getClass().getSimpleName().toLowerCase());
      types.add(e.getClass());
    }
    Expect.equal(Status.values().length - 1, types.size());
    KvcException unknown = KvcException.of(1000, "kvc_append", "new");
    Expect.equal(1000, unknown.code());
    Expect.thrown(IllegalArgumentException.class, unknown::status);
  }

  /** What WitnessTests see where the collector comes in time, and commit's, which needs the step once more after its call. */
  static void everyHotCallHoldsItsStep() throws IOException {
    String[] steps = {"java/kvc/Step.java", "ADDRESSES\\.\\w+|kvc_(append|attend|step_commit)", "this"};
    String[] segments = {"java22/kvc/Segments.java", "FfmCalls\\.\\w+", "step"};
    for (String[] place : List.of(steps, segments)) {
      String source = Files.readString(Path.of(System.getProperty("kvc.root"), "bindings/java/src/main", place[0]));
      String call = "\\b(" + place[1] + ")\\(";
      String held = call + "[^;]*;\\s*} finally \\{\\s*Reference\\.reachabilityFence\\(" + place[2] + "\\);";
      long calls = Pattern.compile(call).matcher(source).results().count();
      Expect.that(calls >= 2, place[0] + " makes no calls");
      Expect.equal(calls, Pattern.compile(held).matcher(source).results().count());
    }
  }

  static void theReadmeNamesEveryException() throws IOException {
    String readme = Files.readString(Path.of(System.getProperty("kvc.root"), "bindings/java/README.md"));
    String errors = readme.substring(readme.indexOf("## Errors"), readme.indexOf("## Device memory"));
    for (Class<?> type : KvcException.class.getDeclaredClasses())
      Expect.that(errors.contains("`" + type.getSimpleName() + "`"), "README.md does not name " + type.getSimpleName());
  }

  static void mavenGivesTheSameVersion() throws IOException {
    Matcher version = Pattern.compile("<version>(.*?)</version>").matcher(Files.readString(Path.of(System.getProperty("kvc.root"), "bindings/java/pom.xml")));
    Expect.that(version.find(), "pom.xml has no version");
    Expect.equal(Kvc.version(), version.group(1));
  }

  static void theLibrarySaysWhatItIs() {
    Expect.that(Kvc.version().matches("\\d+\\.\\d+\\.\\d+.*"), Kvc.version());
    Expect.that(!Kvc.buildInfo().isEmpty(), "no build info");
    Expect.equal((long) kvc.raw.kvc.KVC_ABI_VERSION, Kvc.abiVersion());
    Expect.that(Kvc.presets().contains("int4"), Kvc.presets().toString());
    Expect.that(Kvc.policies().contains("h2o"), Kvc.policies().toString());
    Expect.that(Kvc.targets().contains("scalar"), Kvc.targets().toString());
    Expect.equal(Kvc.formatCodec("int4"), Kvc.formatCodec(Kvc.formatCodec("int4")));
    Expect.that(Kvc.formatPolicy("streaming:4+512").startsWith("streaming"), Kvc.formatPolicy("streaming:4+512"));
    Expect.equal(1L, Kvc.deviceCount(Device.CPU));
    Expect.that(!Kvc.deviceName(Device.CPU, 0).isEmpty(), "no name");
  }
}
