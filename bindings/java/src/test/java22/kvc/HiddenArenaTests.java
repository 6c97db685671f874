package kvc;

/** Over a bridge that finds none of the class library's own names (java.i), as in a Java that has others. */
final class HiddenArenaTests {
  /** What cannot be held is not taken. */
  static void buffersAreRefused() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      BufferTests.refused("kvc_step_begin", "seqs: this Java does not tell whether an Arena can free its memory", () -> cache.begin(sequence, 1));
    }
  }
}
