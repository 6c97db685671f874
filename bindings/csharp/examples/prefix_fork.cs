// What was computed for one prompt serves the next that begins alike, and a fork goes its own way from there.
using System;
using Kvc;

static class PrefixFork {
  static long[] Ids(int n) {
    var ids = new long[n];
    for (int i = 0; i < n; i++) ids[i] = 1000L * i + 7;
    return ids;
  }

  static void Main() {
    byte[] salt = PrefixIndex.Salt("tenant");
    using (Cache cache = Inputs.NewCache()) {
      using (Sequence first = cache.CreateSequence()) {
        Inputs.Run(cache, first, 200, 1, new Sha256());
        cache.Prefixes.Publish(first, Ids(200), salt);
      }
      using (Sequence original = cache.Prefixes.Lookup(Ids(250), salt, out PrefixHit hit))
      using (Sequence fork = original.Fork(original.Length)) {
        Console.WriteLine("hit " + hit.Tokens);
        Inputs.Run(cache, fork, 10, 2, new Sha256());
        Console.WriteLine("original " + original.Length + " fork " + fork.Length);
      }
    }
  }
}
