using System;
using System.Collections.Generic;
using Kvc;

/// <summary>What a row of numbers is of; the values are those of docs/SCRIPTS.md.</summary>
enum Source { Keys = 1, Values = 2, Queries = 3, Scores = 4, SinkLogits = 5, Clusters = 6 }

/// <summary>The numbers of operation scripts, "Numbers" in docs/SCRIPTS.md.</summary>
struct Numbers {
  const ulong Golden = 0x9e3779b97f4a7c15;
  static readonly HashSet<string> kinds = new HashSet<string> {
    "normal", "sharp", "constant", "zero", "outlier", "tiny", "extreme", "huge", "nan", "inf"
  };

  internal ulong Seed, Data;
  internal Dtype Type;
  string kind;

  internal Numbers(ulong seed, ulong data, string kind = "normal", Dtype type = Dtype.F32) {
    if (!kinds.Contains(kind)) throw new ScriptException("unknown kind of data " + kind);
    Seed = seed;
    Data = data;
    Type = type;
    this.kind = kind;
  }

  internal static int Bytes(Dtype type) => type == Dtype.F32 ? 4 : 2;

  static ulong Key(ulong from, ulong number) {
    ulong z = unchecked(from + Golden * (number + 1));
    z = unchecked((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9);
    z = unchecked((z ^ (z >> 27)) * 0x94d049bb133111eb);
    return z ^ (z >> 31);
  }

  internal ulong Row(long layer, Source source, long position) {
    ulong where = Key(Key(Seed, Data), unchecked((ulong)layer * 8 + (ulong)source));
    return Key(where, kind == "constant" ? 0 : unchecked((ulong)position));
  }

  /// <summary>A sum of four 16-bit numbers around zero.</summary>
  internal static long Bell(ulong row, long i) {
    ulong bits = Key(row, unchecked((ulong)i));
    return (long)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)) - 131070;
  }

  /// <summary>A row [heads, dim] in the type of these numbers.</summary>
  internal unsafe void Fill(long layer, Source source, long position, int width, int dim, byte* to) {
    ulong row = Row(layer, source, position);
    for (int i = 0; i < width; i++) {
      long n = Bell(row, i);
      float x = Type == Dtype.F32 ? n / 65536f : Type == Dtype.F16 ? (n >> 7) / 512f : (n >> 10) / 64f;
      if (kind != "normal") x = Changed(x, n, i % dim);
      if (Type == Dtype.F32)
        ((float*)to)[i] = x;
      else
        ((ushort*)to)[i] = Type == Dtype.F16 ? HalfBits(x) : (ushort)(*(uint*)&x >> 16);
    }
  }

  float Changed(float x, long n, int channel) {
    switch (kind) {
    case "sharp": return x * 16;
    case "zero": return 0;
    case "outlier": return channel % 16 == 3 ? x * 32 : x;
    case "tiny": return x / 16384;
    case "extreme": return n < 0 ? -65280 : 65280;
    case "huge":
      float huge = Type == Dtype.F16 ? float.PositiveInfinity : 131072;
      return n < 0 ? -huge : huge;
    default: return x;
    }
  }

  /// <summary>For nan and inf: the last element of a whole buffer.</summary>
  internal unsafe void Spoil(byte* lastElement) {
    if (kind != "nan" && kind != "inf") return;
    bool nan = kind == "nan";
    if (Type == Dtype.F32)
      *(uint*)lastElement = nan ? 0x7fc00000u : 0x7f800000u;
    else if (Type == Dtype.F16)
      *(ushort*)lastElement = (ushort)(nan ? 0x7e00 : 0x7c00);
    else
      *(ushort*)lastElement = (ushort)(nan ? 0x7fc0 : 0x7f80);
  }

  // Bits of a number that fp16 holds exactly, as all of these are.
  static unsafe ushort HalfBits(float x) {
    uint bits = *(uint*)&x, size = bits & 0x7fffffff;
    uint sign = bits >> 16 & 0x8000;
    if (size == 0x7f800000) return (ushort)(sign | 0x7c00);
    if (size >= 0x38800000) return (ushort)(sign | (size - 0x38000000) >> 13);
    return (ushort)(sign | (uint)(Math.Abs(x) * 16777216f));   // subnormal: multiples of 2^-24
  }
}
