using System.Runtime.CompilerServices;
using System.Text;

namespace Kvc.Raw {

/// <summary>Texts on their way into C and back.</summary>
static unsafe class NativeText {
  internal delegate long Writer(byte* to, long bytes);

  /// <summary>
  /// C takes a text up to its first NUL, and half a surrogate pair has no UTF-8: what would be cut, or another text, is refused. The operation is
  /// the function that calls.
  /// </summary>
  internal static string Whole(string text, string name, [CallerMemberName] string operation = null) {
    if (text == null) return null;
    for (int i = 0; i < text.Length; i++) {
      if (text[i] == 0)
        throw new KvcArgumentException(operation, name + ": byte " + Encoding.UTF8.GetByteCount(text.Substring(0, i)) + " is a NUL");
      if (!char.IsSurrogate(text[i])) continue;
      if (i + 1 == text.Length || !char.IsSurrogatePair(text[i], text[i + 1]))
        throw new KvcArgumentException(operation, name + ": a text with half a surrogate pair");
      i++;
    }
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
