using System;
using System.Text;

namespace Kvc.Raw {

/// <summary>Texts on their way into C and back.</summary>
static unsafe class NativeText {
  internal delegate long Writer(byte* to, long bytes);

  /// <summary>C takes a text up to its first NUL: what would be cut is refused.</summary>
  internal static string Whole(string text) {
    if (text != null && text.IndexOf('\0') >= 0) throw new ArgumentException("kvc: the text holds a NUL");
    return text;
  }

  /// <summary>The text of a function that answers with the bytes needed, the final NUL included.</summary>
  internal static string Read(Writer write) {
    var bytes = new byte[write(null, 0)];
    fixed (byte* to = bytes) write(to, bytes.Length);
    return Encoding.UTF8.GetString(bytes, 0, bytes.Length - 1);
  }
}

}
