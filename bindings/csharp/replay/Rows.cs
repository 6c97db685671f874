using System;
using Kvc;

/// <summary>A caller's buffer of rows, with padding behind each that nobody may touch. Used again for the next operation.</summary>
sealed class Rows {
  byte[] bytes = new byte[0];
  int rows, rowBytes, strideBytes;

  internal Span<byte> Bytes => new Span<byte>(bytes, 0, rows * strideBytes);

  internal void Shape(Dtype type, long tokens, long width, long padding) {
    rows = checked((int)tokens);
    rowBytes = checked((int)(width * Numbers.Bytes(type)));
    strideBytes = checked((int)((width + padding) * Numbers.Bytes(type)));
    int needed = checked(rows * strideBytes);
    if (bytes.Length < needed) bytes = new byte[needed];
    Bytes.Fill(0xff);
  }

  internal unsafe void Fill(Numbers numbers, long layer, Source source, long position, int from, long tokens, long dim) {
    int width = rowBytes / Numbers.Bytes(numbers.Type);
    fixed (byte* to = bytes) {
      for (int i = 0; i < tokens; i++)
        numbers.Fill(layer, source, position + i, width, (int)dim, to + (long)(from + i) * strideBytes);
    }
  }

  internal unsafe void SpoilLast(Numbers numbers) {
    if (rows == 0 || rowBytes == 0) return;
    fixed (byte* to = bytes) numbers.Spoil(to + (long)(rows - 1) * strideBytes + rowBytes - Numbers.Bytes(numbers.Type));
  }

  internal bool PaddingUntouched() {
    for (int row = 0; row < rows; row++)
      for (int i = rowBytes; i < strideBytes; i++)
        if (bytes[row * strideBytes + i] != 0xff) return false;
    return true;
  }

  internal void AddTo(Answer answer) {
    for (int row = 0; row < rows; row++) answer.Add(new ReadOnlySpan<byte>(bytes, row * strideBytes, rowBytes));
  }
}
