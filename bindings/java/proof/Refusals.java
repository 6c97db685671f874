import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import kvc.KvcException;
import kvc.raw.*;

/** What the raw Java layer refuses before C sees it. No handle is valid here: a call that got through throws KvcException.Handle. */
public final class Refusals {
  static int checks;

  static void refused(String what, Class<? extends Exception> expected, Runnable call) {
    checks++;
    try {
      call.run();
    } catch (Exception e) {
      if (expected.isInstance(e)) return;
      throw new AssertionError(what + ": " + e, e);
    }
    throw new AssertionError(what + " was taken");
  }

  public static void main(String[] args) {
    ByteBuffer good = ByteBuffer.allocateDirect(64).order(ByteOrder.nativeOrder());
    ByteBuffer swapped = ByteBuffer.allocateDirect(64).order(ByteOrder.BIG_ENDIAN);
    LongBuffer one = good.asLongBuffer().slice(0, 1), two = good.asLongBuffer().slice(0, 2);
    ByteBuffer readOnly = good.asReadOnlyBuffer().order(ByteOrder.nativeOrder());
    FloatBuffer lse = swapped.asFloatBuffer();
    refused("a heap buffer", KvcException.Argument.class, () -> kvc_append(0, 0, ByteBuffer.allocate(8), good));
    refused("a read-only output", KvcException.Argument.class, () -> kvc_attend(0, 0, good, readOnly, null, null));
    refused("keys in foreign byte order", KvcException.Argument.class, () -> kvc_append(0, 0, swapped, good));
    refused("values in foreign byte order", KvcException.Argument.class, () -> kvc_append(0, 0, good, swapped));
    refused("queries in foreign byte order", KvcException.Argument.class, () -> kvc_attend(0, 0, swapped, good, null, null));
    refused("an output in foreign byte order", KvcException.Argument.class, () -> kvc_attend(0, 0, good, swapped, null, null));
    refused("log-sum-exps in foreign byte order", KvcException.Argument.class, () -> kvc_attend(0, 0, good, good, lse, null));
    refused("two lengths for one", KvcException.Argument.class, () -> kvc_step_begin(0, one, two, null, null));
    refused("a text too long for its field", KvcException.Argument.class, () -> new kvc_options().setCodec("x".repeat(128)));
    refused("an array without room", IndexOutOfBoundsException.class, () -> kvc_seq_length(0, 0, new long[0]));
    refused("a read-only input to a dead step", KvcException.class, () -> kvc_append(0, 0, readOnly, null));
    refused("an unknown status", IllegalArgumentException.class, () -> kvc_status.swigToEnum(1000));
    kvc_options options = new kvc_options();
    options.setCodec("x".repeat(127));
    if (!options.getCodec().equals("x".repeat(127))) throw new AssertionError("a text that just fits came back as " + options.getCodec());
    System.out.println("java: " + checks + " refusals");
  }
}
