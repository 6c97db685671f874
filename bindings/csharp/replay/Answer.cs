using System;
using System.Runtime.InteropServices;

/// <summary>The bytes that an operation gave, as they enter the digest.</summary>
sealed class Answer {
  byte[] bytes = new byte[1 << 16];
  int length;

  internal ReadOnlySpan<byte> Bytes => new ReadOnlySpan<byte>(bytes, 0, length);

  internal void Clear() { length = 0; }

  internal void Add(ReadOnlySpan<byte> more) {
    if (bytes.Length - length < more.Length) Array.Resize(ref bytes, Math.Max(bytes.Length * 2, length + more.Length));
    more.CopyTo(new Span<byte>(bytes, length, more.Length));
    length += more.Length;
  }

  internal void Add<T>(ReadOnlySpan<T> more) where T : struct => Add(MemoryMarshal.AsBytes(more));

  internal void Numbers(params long[] numbers) => Add<long>(numbers);
}
