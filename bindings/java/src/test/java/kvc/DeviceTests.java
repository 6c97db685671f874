package kvc;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/** The same on a device, where there is one; where there is none, the error says why. */
final class DeviceTests {
  private static boolean hasDevice() {
    try {
      return Kvc.deviceCount(Device.CUDA) > 0;
    } catch (KvcException.Unsupported e) {
      Expect.that(!e.getMessage().isEmpty(), "no reason");
      Expect.thrown(KvcException.Unsupported.class, () -> new Cache(Fixture.options().target("").device(Device.CUDA)));
      System.out.println("skipped: steps on a device (" + e.getMessage() + ")");
      return false;
    }
  }

  @SuppressWarnings("try")
  static void stepsRunOnTheDevice() {
    if (!hasDevice()) return;
    try (Cache cache = new Cache(Fixture.options().target("").device(Device.CUDA)); Sequence sequence = cache.newSequence()) {
      ByteBuffer expected = Fixture.grow(cache, sequence, 3);
      ByteBuffer out = Fixture.output(3), k = Fixture.keys(0, 0, 3), q = Fixture.queries(0, 0, 3);
      try (DeviceBuffer kThere = cache.newBuffer(DeviceBuffer.Kind.DEVICE, k.remaining()); DeviceBuffer vThere = cache.newBuffer(DeviceBuffer.Kind.DEVICE, k.remaining());
          DeviceBuffer qThere = cache.newBuffer(DeviceBuffer.Kind.DEVICE, q.remaining()); DeviceBuffer outThere = cache.newBuffer(DeviceBuffer.Kind.DEVICE, out.remaining());
          Sequence second = cache.newSequence(); Step step = cache.begin(List.of(second), new long[] {3}, new StepOptions().buffers(Device.CUDA))) {
        for (int layer = 0; layer < Fixture.LAYERS; layer++) {
          kThere.copyFrom(Fixture.keys(layer, 0, 3));
          vThere.copyFrom(Fixture.values(layer, 0, 3));
          qThere.copyFrom(Fixture.queries(layer, 0, 3));
          step.append(layer, kThere.address(), kThere.bytes(), vThere.address(), vThere.bytes());
          step.attend(layer, qThere.address(), qThere.bytes(), outThere.address(), outThere.bytes(), 0, 0, null);
        }
        step.commit();
        outThere.copyTo(out);
        Expect.thrown(KvcException.Argument.class, () -> kThere.copyFrom(Direct.bytes(kThere.bytes() + 1)));
        Expect.thrown(KvcException.Argument.class, () -> kThere.copyFrom(k.duplicate().order(ByteOrder.BIG_ENDIAN)));
      }
      Expect.equal(expected, out);
      DeviceBuffer left = cache.newBuffer(DeviceBuffer.Kind.PINNED, 64);
      cache.close();
      Expect.thrown(IllegalStateException.class, left::address);
    }
  }
}
