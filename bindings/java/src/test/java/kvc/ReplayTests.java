package kvc;

/** The replayer tells right from wrong; that its digests are those of C is for the conformance kit to say. */
final class ReplayTests {
  private static final String SCRIPT = """
      create layers=1 codec=int4 arena_tokens=512   # a comment
      seq a data=3
      length b -> handle
      begin s a:70 kv=f16 q=bf16 out=f16 padding=8
      append s seed=SEED kind=outlier
      attend s seed=SEED
      commit s -> ok|no_memory
      export x a
      import x b data=3
      import x c flip=100 -> corrupt
      stats b
      """;

  private static String digest(String script) {
    try (Replay replay = new Replay("scalar", 0)) {
      for (ScriptLine line : ScriptLine.parseAll(script)) {
        String wrong = replay.run(line);
        if (wrong != null) throw new ScriptLine.Nonsense(line.number + ": " + wrong);
      }
      return replay.digest();
    }
  }

  static void digestsDependOnWhatWasSeen() {
    String one = digest(SCRIPT.replace("SEED", "1")), same = digest(SCRIPT.replace("SEED", "1")), other = digest(SCRIPT.replace("SEED", "2"));
    Expect.equal(one, same);
    Expect.that(!one.equals(other), "another seed gave the same digest");
  }

  static void anUnexpectedStatusIsNamed() {
    ScriptLine.Nonsense e = Expect.thrown(ScriptLine.Nonsense.class, () -> digest("create arena_tokens=64\n\nlength a\n"));
    Expect.that(e.getMessage().startsWith("3: length gave HANDLE, expected ok"), e.getMessage());
    e = Expect.thrown(ScriptLine.Nonsense.class, () -> digest("create arena_tokens=64 -> argument|io\n"));
    Expect.that(e.getMessage().startsWith("1: create gave OK, expected argument|io"), e.getMessage());
  }

  static void nonsenseIsRefused() {
    for (String script : new String[] {"jump\n", "create arena_tokens=many\n", "create arena_tokens=64 ->\n", "create arena_tokens=64\ncreate\n"})
      Expect.thrown(ScriptLine.Nonsense.class, () -> digest(script));
  }

  static void numbersAreThoseOfTheText() {
    Expect.equal(0L, ScriptNumbers.mix(0));
    long sum = 0;
    for (int i = 0; i < 10_000; i++) sum += ScriptNumbers.n(7, i);
    Expect.that(Math.abs(sum / 10_000) < 2000, "the numbers do not lie around zero: " + sum / 10_000);
    java.nio.ByteBuffer halves = Direct.bytes(12);
    for (float x : new float[] {1.5f, -65280, 0x1p-24f, 0x1p-14f, Float.POSITIVE_INFINITY, Float.NaN})
      ScriptNumbers.put(halves, StepOptions.Dtype.F16, x);
    short[] bits = {0x3e00, (short) 0xfbf8, 0x0001, 0x0400, 0x7c00, 0x7e00};
    for (int i = 0; i < bits.length; i++) Expect.equal(bits[i], halves.getShort(2 * i));
  }
}
