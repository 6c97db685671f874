using System;
using System.Text;

/// <summary>
/// SHA-256 (FIPS 180-4). Not the run time's own: that of .NET Core 3.1 needs an OpenSSL which current systems do not have.
/// </summary>
public sealed unsafe class Sha256 {
  static readonly uint[] constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
  };
  readonly uint[] state = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
  };
  readonly uint[] schedule = new uint[64];
  readonly byte[] block = new byte[64];
  long length;

  public void Add(ReadOnlySpan<byte> data) {
    fixed (byte* from = &data.GetPinnableReference()) {
      int taken = 0;
      while (taken < data.Length) {
        int filled = (int)(length % 64), n = Math.Min(64 - filled, data.Length - taken);
        if (n == 64) {
          Take(from + taken);
        } else {
          data.Slice(taken, n).CopyTo(new Span<byte>(block, filled, n));
          if (filled + n == 64) fixed (byte* full = block) Take(full);
        }
        taken += n;
        length += n;
      }
    }
  }

  /// <summary>Ends the sum and returns it in hexadecimal.</summary>
  public string Finish() {
    long bits = length * 8;
    var padding = new byte[(length % 64 < 56 ? 56 : 120) - length % 64 + 8];
    padding[0] = 0x80;
    for (int i = 1; i <= 8; i++, bits >>= 8) padding[padding.Length - i] = (byte)bits;
    Add(padding);
    var text = new StringBuilder();
    foreach (uint word in state) text.Append(word.ToString("x8"));
    return text.ToString();
  }

  void Take(byte* from) {
    fixed (uint* w = schedule, k = constants) {
      for (int i = 0; i < 16; i++, from += 4) w[i] = (uint)(from[0] << 24 | from[1] << 16 | from[2] << 8 | from[3]);
      for (int i = 16; i < 64; i++) {
        uint s0 = w[i - 15], s1 = w[i - 2];
        s0 = (s0 >> 7 | s0 << 25) ^ (s0 >> 18 | s0 << 14) ^ s0 >> 3;
        s1 = (s1 >> 17 | s1 << 15) ^ (s1 >> 19 | s1 << 13) ^ s1 >> 10;
        w[i] = unchecked(w[i - 16] + s0 + w[i - 7] + s1);
      }
      uint a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
      for (int i = 0; i < 64; i++) {
        uint first = unchecked(h + ((e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)) + (e & f ^ ~e & g) + k[i] + w[i]);
        uint second = unchecked(((a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)) + (a & b ^ a & c ^ b & c));
        h = g;
        g = f;
        f = e;
        e = unchecked(d + first);
        d = c;
        c = b;
        b = a;
        a = unchecked(first + second);
      }
      unchecked {
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
      }
    }
  }
}
