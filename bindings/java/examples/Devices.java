import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.Device;
import kvc.DeviceBuffer;
import kvc.Direct;
import kvc.Sequence;
import kvc.Step;
import kvc.StepOptions;

/**
 * The same program on the CPU and on a GPU: the argument says where the cache lies, "cpu" or "cuda:0", and a second one names a file for
 * what was attended to. A prompt of 200 tokens, then 8 tokens one by one; what is stored is the same on both, to the bit.
 */
final class Devices {
  private static final int PROMPT = 200;

  public static void main(String[] arguments) throws IOException {
    String place = arguments.length > 0 ? arguments[0] : "cpu";
    if (!place.matches("cpu|cuda:[0-9]+")) throw new IllegalArgumentException(place + " is neither cpu nor cuda:NUMBER");
    boolean onCpu = place.equals("cpu");
    CacheOptions options = Inputs.options();
    if (onCpu) options.target("scalar"); // the same bits on every machine
    else options.device(Device.CUDA).deviceOrdinal(Long.parseLong(place.substring("cuda:".length())));
    ByteArrayOutputStream outputs = new ByteArrayOutputStream();
    try (Cache cache = new Cache(options); Sequence sequence = cache.newSequence()) {
      if (onCpu) {
        runAll(cache, sequence, null, Devices::runLayer, outputs);
      } else {
        try (Buffers buffers = new Buffers(cache)) {
          runAll(cache, sequence, new StepOptions().buffers(Device.CUDA), buffers::runLayer, outputs);
        }
      }
      System.out.println("tokens " + sequence.stats().tokens());
      System.out.println("codes " + codes(sequence));
      System.out.println("record_bytes " + sequence.stats().recordBytes());
    }
    if (arguments.length > 1) Files.write(Path.of(arguments[1]), outputs.toByteArray());
  }

  private static void runAll(Cache cache, Sequence sequence, StepOptions options, Inputs.LayerRun run, ByteArrayOutputStream outputs) {
    for (int i = 0; i <= 8; i++) {
      Inputs.run(cache, sequence, i == 0 ? PROMPT : 1, 1, options, run, out -> {
        byte[] bytes = new byte[out.remaining()];
        out.get(bytes);
        outputs.writeBytes(bytes);
      });
    }
  }

  private static void runLayer(Step step, int layer, ByteBuffer k, ByteBuffer v, ByteBuffer q, ByteBuffer out) {
    step.append(layer, k, v);
    step.attend(layer, q, out);
  }

  /** Of the device's memory, for the prompt's step and those after it. */
  private static final class Buffers implements AutoCloseable {
    private final DeviceBuffer k, v, q, out;

    Buffers(Cache cache) {
      k = of(cache, Inputs.KV_HEADS);
      v = of(cache, Inputs.KV_HEADS);
      q = of(cache, Inputs.Q_HEADS);
      out = of(cache, Inputs.Q_HEADS);
    }

    private static DeviceBuffer of(Cache cache, int heads) {
      return cache.newBuffer(DeviceBuffer.Kind.DEVICE, PROMPT * heads * Inputs.DIM * 4L);
    }

    void runLayer(Step step, int layer, ByteBuffer keys, ByteBuffer values, ByteBuffer queries, ByteBuffer outputs) {
      k.copyFrom(keys);
      v.copyFrom(values);
      q.copyFrom(queries);
      step.append(layer, k.address(), keys.remaining(), v.address(), values.remaining());
      step.attend(layer, q.address(), queries.remaining(), out.address(), outputs.remaining(), 0, 0, null);
      out.copyTo(outputs);
    }

    @Override
    public void close() {
      for (DeviceBuffer buffer : new DeviceBuffer[] {k, v, q, out}) buffer.close();
    }
  }

  /** The digest of all codes that the sequence holds. */
  private static String codes(Sequence sequence) {
    MessageDigest digest = Inputs.sha256();
    for (int layer = 0; layer < Inputs.LAYERS; layer++) {
      for (int head = 0; head < Inputs.KV_HEADS; head++) {
        for (Sequence.Part part : Sequence.Part.values()) {
          ByteBuffer out = Direct.bytes(sequence.codes(layer, head, part, null) * Inputs.DIM);
          sequence.codes(layer, head, part, out);
          digest.update(out);
        }
      }
    }
    return Inputs.hex(digest);
  }
}
