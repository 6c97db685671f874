// A sequence leaves the cache as bytes, comes back, and goes on where it was.
using System;
using Kvc;

static class Snapshot {
  static void Main() {
    using (Cache cache = Inputs.NewCache()) {
      byte[] bytes;
      using (Sequence sequence = cache.CreateSequence()) {
        Inputs.Run(cache, sequence, 200, 1, new Sha256());
        bytes = cache.Export(sequence);
      }
      Console.WriteLine("bytes " + bytes.Length);
      using (Sequence restored = cache.Import(bytes)[0]) {
        Console.WriteLine("restored " + restored.Length);
        var digest = new Sha256();
        Inputs.Run(cache, restored, 1, 1, digest);
        Console.WriteLine("sha256 " + digest.Finish());
      }
    }
  }
}
