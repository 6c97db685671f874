using System;
using System.Runtime.InteropServices;
using System.Text;

namespace SmolServer {

/// <summary>The library's object. A call that runs holds it, so that it is never closed under one.</summary>
sealed class ModelHandle : SafeHandle {
  ModelHandle() : base(IntPtr.Zero, true) {}

  public override bool IsInvalid => handle == IntPtr.Zero;

  protected override bool ReleaseHandle() {
    smollm_close(handle);
    return true;
  }

  [DllImport(Model.Library)]
  static extern void smollm_close(IntPtr model);
}

/// <summary>SmolLM2 without its cache: smollm.h tells what each call does. Arrays may be longer than n says.</summary>
sealed class Model : IDisposable {
  internal const string Library = "kvc_smollm";
  const int TextBytes = 1024;   // SMOLLM_TEXT_BYTES
  static readonly byte[] nothing = new byte[1];
  readonly ModelHandle handle;
  readonly Shape shape;

  /// <summary>Maps the files in a folder; threads compute, the calling one included.</summary>
  public Model(string folder, int threads) {
    var message = new byte[256];
    handle = smollm_open(folder, threads - 1, message, message.Length);
    if (handle.IsInvalid) throw new ArgumentException(Encoding.UTF8.GetString(message).TrimEnd('\0'));
    smollm_shape_get(handle, out shape);
  }

  public long Layers => shape.layers;
  public long Width => shape.width;
  public long QHeads => shape.qHeads;
  public long KvHeads => shape.kvHeads;
  public long HeadDim => shape.headDim;
  public long QWidth => shape.qHeads * shape.headDim;
  public long KvWidth => shape.kvHeads * shape.headDim;
  public long ContextTokens => shape.contextTokens;
  public long EndToken => shape.endToken;

  /// <summary>A text of more bytes is longer than the context.</summary>
  public long PromptBytes => shape.promptBytes;

  public void Dispose() => handle.Dispose();

  /// <summary>The tokens of a text.</summary>
  public long[] Encode(string text) {
    byte[] bytes = Encoding.UTF8.GetBytes(text);
    var tokens = new long[bytes.Length + 1];
    long n = smollm_encode(handle, bytes.Length == 0 ? nothing : bytes, bytes.Length, tokens, tokens.Length);
    if (n < 0) throw new InvalidOperationException("encode: out of memory");
    Array.Resize(ref tokens, (int)n);
    return tokens;
  }

  /// <summary>The whole characters that one more token completes; token -1 ends the text. pending: 8 bytes, zero at first.</summary>
  public string Text(long token, byte[] pending) {
    var text = new byte[TextBytes];
    return Encoding.UTF8.GetString(text, 0, (int)Math.Max(smollm_text(handle, token, pending, text, text.Length), 0));
  }

  /// <summary>Begins a pass: x [n, width].</summary>
  public void Embed(long[] tokens, long n, float[] x) => Check("embed", smollm_embed(handle, tokens, n, x));

  /// <summary>Queries, keys and values of one layer.</summary>
  public void Project(long layer, float[] x, long[] positions, long n, float[] q, float[] k, float[] v) =>
      Check("project", smollm_project(handle, layer, x, positions, n, q, k, v));

  /// <summary>Adds attention and the rest of the layer to x.</summary>
  public void Mix(long layer, float[] x, float[] attended, long n) => Check("mix", smollm_mix(handle, layer, x, attended, n));

  /// <summary>The most likely token after each of some rows of x.</summary>
  public void Choose(float[] x, long[] rows, long n, long[] chosen) => Check("choose", smollm_choose(handle, x, rows, n, chosen));

  static void Check(string call, long status) {
    if (status != 0) throw new InvalidOperationException("model: " + call + " was refused");
  }

  [StructLayout(LayoutKind.Sequential)]
  struct Shape {   // smollm_shape
#pragma warning disable 649   // C writes them
    public long layers, width, qHeads, kvHeads, headDim, vocabulary, contextTokens, endToken, promptBytes;
#pragma warning restore 649
  }

  // Arrays of numbers reach C as they are: the run time pins them for the call.
  [DllImport(Library)]
  static extern ModelHandle smollm_open([MarshalAs(UnmanagedType.LPStr)] string folder, long threads, [Out] byte[] message, long bytes);
  [DllImport(Library)]
  static extern void smollm_shape_get(ModelHandle model, out Shape shape);
  [DllImport(Library)]
  static extern long smollm_encode(ModelHandle model, byte[] text, long bytes, [Out] long[] tokens, long capacity);
  [DllImport(Library)]
  static extern long smollm_text(ModelHandle model, long token, [In, Out] byte[] pending, [Out] byte[] text, long capacity);
  [DllImport(Library)]
  static extern long smollm_embed(ModelHandle model, long[] tokens, long n, [Out] float[] x);
  [DllImport(Library)]
  static extern long smollm_project(ModelHandle model, long layer, float[] x, long[] positions, long n, [Out] float[] q, [Out] float[] k,
                                    [Out] float[] v);
  [DllImport(Library)]
  static extern long smollm_mix(ModelHandle model, long layer, [In, Out] float[] x, float[] attended, long n);
  [DllImport(Library)]
  static extern long smollm_choose(ModelHandle model, float[] x, long[] rows, long n, [Out] long[] chosen);
}

}
