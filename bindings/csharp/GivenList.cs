using System;
using System.Runtime.InteropServices;

namespace Kvc.Raw {

/// <summary>
/// A list that a caller has given, as C takes it. For C no address stands for "all", "no guard" or "by the policy", which nobody means
/// who computed a list that came out empty: so an empty one has an address, too.
/// </summary>
static class GivenList<T> {
  static readonly T[] some = new T[1];

  internal static ref T Of(ReadOnlySpan<T> list) {
    if (list.IsEmpty) return ref some[0];
    return ref MemoryMarshal.GetReference(list);
  }
}

}
