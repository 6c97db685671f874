package kvc;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** As WitnessTests, over memory segments. */
final class SegmentWitnessTests {
  static void stepsOutliveTheirCalls() throws IOException, InterruptedException {
    try (Cache cache = new Cache(Fixture.options().layers(1).arenaGrowth(true)); Arena arena = Arena.ofConfined()) {
      MemorySegment k = arena.allocate(Fixture.keys(0, 0, 1).remaining()), q = arena.allocate(Fixture.queries(0, 0, 1).remaining());
      WitnessTests.underCollections(() -> Segments.append(WitnessTests.begun(cache), 0, k, k));
      WitnessTests.underCollections(() -> Segments.attend(WitnessTests.appended(cache, k.asByteBuffer().order(java.nio.ByteOrder.nativeOrder())), 0, q, q, MemorySegment.NULL, null));
    }
  }
}
