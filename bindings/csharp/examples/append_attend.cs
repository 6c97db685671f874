// A prompt of 200 tokens, then 8 tokens one by one: keys and values go in, attention over the compressed pages comes out.
using System;
using Kvc;

static class AppendAttend {
  static void Main() {
    var digest = new Sha256();
    using (Cache cache = Inputs.NewCache())
    using (Sequence sequence = cache.CreateSequence()) {
      Inputs.Run(cache, sequence, 200, 1, digest);
      for (int i = 0; i < 8; i++) Inputs.Run(cache, sequence, 1, 1, digest);
      Console.WriteLine("tokens " + sequence.Length);
      Console.WriteLine("sha256 " + digest.Finish());
      Console.WriteLine("record_bytes " + sequence.Stats().RecordBytes);
    }
  }
}
