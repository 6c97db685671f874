import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;

/** SmolLM2 without its cache: smollm.h tells what each call does. Buffers are direct ones of kvc's and as long as n rows take. */
final class Model implements AutoCloseable {
  static {
    System.loadLibrary("kvc_server_java");
  }

  private final long handle;
  final int layers, width, qHeads, kvHeads, headDim, context, qWidth, kvWidth;
  final int promptBytes; // a longer text is longer than the context
  final long endToken;

  /** Maps the files in a folder; threads compute, the calling one included. */
  Model(String folder, int threads) throws IOException {
    handle = open((folder + "\0").getBytes(StandardCharsets.UTF_8), threads - 1);
    long[] shape = new long[8];
    shape(handle, shape);
    layers = (int) shape[0];
    width = (int) shape[1];
    qHeads = (int) shape[2];
    kvHeads = (int) shape[3];
    headDim = (int) shape[4];
    context = (int) shape[5];
    promptBytes = (int) shape[6];
    endToken = shape[7];
    qWidth = qHeads * headDim;
    kvWidth = kvHeads * headDim;
  }

  /** No other call may be under way or come. */
  @Override
  public void close() { close(handle); }

  /** Writes the tokens of UTF-8 text, as many as have room, and returns how many there are. Any thread may call it. */
  long encode(byte[] text, long[] out) {
    long n = encode(handle, text, out);
    if (n < 0) throw new OutOfMemoryError("model: encode");
    return n;
  }

  /** The whole characters that one more token completes; token -1 ends the text. pending belongs to the text, 8 bytes. */
  String text(long token, byte[] pending) {
    byte[] out = new byte[(int) textBytes()];
    long n = text(handle, token, pending, out);
    if (n < 0) throw new IllegalStateException("model: token " + token + " is none");
    return new String(out, 0, (int) n, StandardCharsets.UTF_8);
  }

  /** Begins a pass: x [n, width]. */
  void embed(LongBuffer tokens, int n, ByteBuffer x) { check("embed", embed(handle, tokens, n, x)); }

  /** Makes queries, keys and values of one layer. */
  void project(int layer, ByteBuffer x, LongBuffer positions, int n, ByteBuffer q, ByteBuffer k, ByteBuffer v) {
    check("project", project(handle, layer, x, positions, n, q, k, v));
  }

  /** Adds attention and the rest of the layer to x. */
  void mix(int layer, ByteBuffer x, ByteBuffer attended, int n) { check("mix", mix(handle, layer, x, attended, n)); }

  /** The most likely token after each of n rows of x. */
  void choose(ByteBuffer x, LongBuffer rows, int n, LongBuffer out) { check("choose", choose(handle, x, rows, n, out)); }

  private static void check(String call, long status) {
    if (status != 0) throw new IllegalStateException("model: " + call + " was refused");
  }

  private static native long open(byte[] folder, long threads) throws IOException;
  private static native void close(long handle);
  private static native void shape(long handle, long[] out);
  private static native long encode(long handle, byte[] text, long[] out);
  private static native long text(long handle, long token, byte[] pending, byte[] out);
  private static native long textBytes();
  private static native long embed(long handle, LongBuffer tokens, long n, ByteBuffer x);
  private static native long project(long handle, long layer, ByteBuffer x, LongBuffer positions, long n, ByteBuffer q, ByteBuffer k,
      ByteBuffer v);
  private static native long mix(long handle, long layer, ByteBuffer x, ByteBuffer attended, long n);
  private static native long choose(long handle, ByteBuffer x, LongBuffer rows, long n, LongBuffer out);
}
