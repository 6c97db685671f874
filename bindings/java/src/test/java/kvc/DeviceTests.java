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
      Expect.that(System.getProperty("kvc.device") == null, e.getMessage());
      Expect.thrown(KvcException.Unsupported.class, () -> new Cache(Fixture.options().target("").device(Device.CUDA)));
      System.out.println("skipped: steps on a device (" + e.getMessage() + ")");
      return false;
    }
  }

  private static final String ADDRESSES = "the step's buffers lie on the device: hand over their addresses";

  /** Where the options say so, and before C would take the host's memory for the device's. */
  static void theDeviceGetsNoBuffersOfTheHost() {
    try (Cache cache = new Cache(Fixture.options())) {
      ByteBuffer k = Fixture.keys(0, 0, 1), q = Fixture.queries(0, 0, 1);
      Step there = new Step(cache, new Sequence[0], new StepOptions().buffers(Device.CUDA), 0);
      BufferTests.refused("kvc_append", ADDRESSES, () -> there.append(0, k, k));
      BufferTests.refused("kvc_attend", ADDRESSES, () -> there.attend(0, q, q));
      for (StepOptions options : new StepOptions[] {null, new StepOptions(), new StepOptions().buffers(Device.DEFAULT), new StepOptions().buffers(Device.CPU)})
        Expect.thrown(KvcException.Handle.class, () -> new Step(cache, new Sequence[0], options, 0).append(0, k, k));
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
          BufferTests.refused("kvc_append", ADDRESSES, () -> step.append(0, k, k));
          BufferTests.refused("kvc_attend", ADDRESSES, () -> step.attend(0, q, out));
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

  /** The memory of a closed buffer is soon another's: what is written there late would be seen. */
  static void aCopyDoesNotReachTheBufferThatCameAfterItsOwn() throws InterruptedException {
    if (!hasDevice()) return;
    ByteBuffer ones = Direct.bytes(4096), zeros = Direct.bytes(4096), got = Direct.bytes(4096);
    for (int i = 0; i < 4096; i++) ones.put(i, (byte) 1);
    int same = 0;
    try (Cache cache = new Cache(Fixture.options().target("").device(Device.CUDA))) {
      long end = System.nanoTime() + 2_000_000_000L;
      for (int round = 0; System.nanoTime() < end; round++) {
        DeviceBuffer first = cache.newBuffer(DeviceBuffer.Kind.DEVICE, 4096);
        long place = first.address();
        Thread copies = new Thread(() -> {
          try {
            for (int i = 0; i < 20; i++) first.copyFrom(ones);
          } catch (IllegalStateException closed) {
            // as it may be at any time
          }
        });
        copies.start();
        for (int i = 0; i < round % 4 * 500; i++) Thread.onSpinWait();
        first.close();
        try (DeviceBuffer second = cache.newBuffer(DeviceBuffer.Kind.DEVICE, 4096)) {
          same += second.address() == place ? 1 : 0;
          second.copyFrom(zeros);
          copies.join();
          second.copyTo(got);
          Expect.equal(zeros, got);
        }
      }
    }
    Expect.that(same > 0, "no buffer came to the place of another");
  }
}
