package kvc;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Every field crosses as itself: what is set on one side arrives in the field of that name on the other, and nowhere else. */
final class FieldTests {
  /** A struct of the library and the names of its fields, without those that no class has. */
  private record Struct(String name, List<String> fields) {
    Class<?> type() { return CoverageTests.STRUCTS.get(name); }

    Class<?> raw() throws ReflectiveOperationException { return Class.forName("kvc.raw." + name); }

    boolean isOptions() { return Arrays.stream(type().getDeclaredFields()).anyMatch(field -> field.getName().equals("raw")); }

    Map<String, Object> read(Object raw) throws ReflectiveOperationException {
      Map<String, Object> values = new LinkedHashMap<>();
      for (String field : fields) values.put(field, raw().getMethod("get" + capital(field)).invoke(raw));
      return values;
    }
  }

  private static String capital(String field) { return Character.toUpperCase(field.charAt(0)) + field.substring(1); }

  private static List<Struct> structs() {
    List<Struct> structs = new ArrayList<>();
    for (String line : Kvc.abiDescription().split("\n")) {
      if (!line.startsWith("struct ")) continue;
      List<String> fields = new ArrayList<>();
      Matcher matcher = Pattern.compile("; field (\\w+)").matcher(line);
      while (matcher.find()) if (!CoverageTests.LEFT_OUT.contains(matcher.group(1))) fields.add(matcher.group(1));
      structs.add(new Struct(line.split(" ")[1], fields));
    }
    return structs;
  }

  private static Object raw(Object options) throws ReflectiveOperationException {
    Field raw = options.getClass().getDeclaredField("raw");
    raw.setAccessible(true);
    return raw.get(options);
  }

  private static Object fresh(Struct struct) throws ReflectiveOperationException { return struct.type().getDeclaredConstructor().newInstance(); }

  /** What a setter is called with, and what then stands in C. */
  private record Value(Object given, Object inC) {}

  private static List<Value> values(Class<?> parameter, Object unset) throws ReflectiveOperationException {
    if (parameter == boolean.class) {
      boolean other = unset.equals(0);
      return List.of(new Value(other, other ? 1 : 0), new Value(!other, other ? 0 : 1));
    }
    if (parameter == int.class) return List.of(new Value(7, 7));
    if (parameter == long.class) return List.of(new Value(7_000_000_011L, 7_000_000_011L));
    if (parameter == float.class) return List.of(new Value(0.75f, 0.75f));
    if (parameter == double.class) return List.of(new Value(0.625, 0.625));
    if (parameter == String.class) return List.of(new Value("é, int4", "é, int4"));
    List<Value> values = new ArrayList<>();
    for (Object constant : parameter.getEnumConstants()) {
      Field raw = parameter.getDeclaredField("raw");
      raw.setAccessible(true);
      values.add(new Value(constant, raw.getType().getMethod("swigValue").invoke(raw.get(constant))));
    }
    return values;
  }

  private static Method setter(Struct struct, String field, int parameters) {
    String name = CoverageTests.member(struct.name, field);
    return Arrays.stream(struct.type().getMethods()).filter(method -> method.getName().equals(name) && method.getParameterCount() == parameters)
        .findFirst().orElseThrow(() -> new AssertionError(struct.name + "." + field + " has no setter " + name));
  }

  /** Set this one alone, and all of the struct are as they should be. */
  private static void crosses(Struct struct, String field) throws ReflectiveOperationException {
    Method set = setter(struct, field, 1);
    for (Value value : values(set.getParameterTypes()[0], struct.read(raw(fresh(struct))).get(field))) {
      Object options = fresh(struct);
      Map<String, Object> expected = struct.read(raw(options));
      expected.put(field, value.inC);
      set.invoke(options, value.given);
      Expect.equal(struct.name + expected, struct.name + struct.read(raw(options)));
    }
  }

  private static void pairCrosses(Struct struct, String begin, String end) throws ReflectiveOperationException {
    Object options = fresh(struct);
    Map<String, Object> expected = struct.read(raw(options));
    expected.put(begin, 3L);
    expected.put(end, 5L);
    setter(struct, begin, 2).invoke(options, 3L, 5L);
    Expect.equal(struct.name + expected, struct.name + struct.read(raw(options)));
  }

  static void whatIsSetArrivesInItsField() throws ReflectiveOperationException {
    int crossed = 0;
    for (Struct struct : structs()) {
      if (!struct.isOptions()) continue;
      for (String field : struct.fields) {
        crossed++;
        if (field.endsWith("_begin")) pairCrosses(struct, field, field.replace("_begin", "_end"));
        else if (!field.endsWith("_end") && !Set.of("arena_block", "graph").contains(field)) crosses(struct, field);
      }
    }
    Expect.that(crossed > 70, "only " + crossed + " fields of options were found");
  }

  static void aBlockArrivesWithItsLength() throws ReflectiveOperationException {
    Struct struct = structs().stream().filter(one -> one.name.equals("kvc_options")).findFirst().orElseThrow();
    ByteBuffer block = Direct.bytes(4096).position(64).limit(1024);
    Map<String, Object> expected = struct.read(new CacheOptions().raw);
    expected.put("arena_block", kvc.raw.kvc.kvc_address_of(block));
    expected.put("arena_bytes", 960L);
    Expect.equal(expected, struct.read(new CacheOptions().arenaBlock(block).raw));
    expected.put("arena_block", 7_000_000_128L);
    Expect.equal(expected, struct.read(new CacheOptions().arenaBlock(7_000_000_128L, 960).raw));
  }

  static void aGraphArrivesAsItsHandle() throws ReflectiveOperationException {
    Struct struct = structs().stream().filter(one -> one.name.equals("kvc_step_options")).findFirst().orElseThrow();
    try (Cache cache = new Cache(Fixture.options()); Graph graph = new Graph(cache, 4711)) {
      Map<String, Object> expected = struct.read(new StepOptions().raw);
      StepOptions options = new StepOptions().graph(graph);
      Expect.equal(expected.keySet(), struct.read(options.raw).keySet());
      expected.put("graph", 4711L);
      Expect.equal(expected, struct.read(options.raw));
      expected.put("graph", 0L);
      Expect.equal(expected, struct.read(options.graph(null).raw));
    }
  }

  /** Another number in each field of C. */
  private static Object numbered(Struct struct) throws ReflectiveOperationException {
    Object raw = struct.raw().getDeclaredConstructor().newInstance();
    int n = 100;
    for (String field : struct.fields) {
      n++;
      Method set = Arrays.stream(struct.raw().getMethods()).filter(method -> method.getName().equals("set" + capital(field))).findFirst().orElseThrow();
      Class<?> type = set.getParameterTypes()[0];
      set.invoke(raw, type == double.class ? (Object) (n + 0.5) : type == int.class ? (Object) n : (Object) (long) n);
    }
    return raw;
  }

  static void whatCWroteIsReadFromItsField() throws ReflectiveOperationException {
    Set<String> read = new TreeSet<>();
    for (Struct struct : structs()) {
      if (!struct.type().isRecord()) continue;
      Object raw = numbered(struct);
      boolean hit = struct.type() == PrefixHit.class;
      Constructor<?> make = hit ? PrefixHit.class.getDeclaredConstructor(Sequence.class, struct.raw()) : struct.type().getDeclaredConstructor(struct.raw());
      Object record = hit ? make.newInstance(null, raw) : make.newInstance(raw);
      Map<String, Object> seen = new LinkedHashMap<>();
      for (String field : struct.fields) seen.put(field, struct.type().getMethod(CoverageTests.member(struct.name, field)).invoke(record));
      Expect.equal(struct.name + struct.read(raw), struct.name + seen);
      read.add(struct.type().getSimpleName());
    }
    Expect.equal(Set.of("CacheStats", "EvictReport", "Plan", "PrefixHit", "PrefixStats", "SequenceStats", "StepDownReport"), read);
  }

  /** HALVES is KVC_ROPE_HALVES, and no other of them. */
  static void everyConstantIsTheOneOfItsName() throws ReflectiveOperationException {
    for (Class<? extends Enum<?>> type : CoverageTests.ENUMS.values()) {
      Field raw = type.getDeclaredField("raw");
      raw.setAccessible(true);
      for (Enum<?> constant : type.getEnumConstants())
        Expect.that(raw.get(constant).toString().endsWith("_" + constant.name()), type.getSimpleName() + "." + constant + " is " + raw.get(constant));
    }
  }
}
