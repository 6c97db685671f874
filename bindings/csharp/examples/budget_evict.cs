// A prompt of 512 tokens gives way to a budget: 256 tokens stay in each layer and head, the newest 32 among them.
using System;
using Kvc;

static class BudgetEvict {
  static void Main() {
    using (Cache cache = Inputs.NewCache())
    using (Sequence sequence = cache.CreateSequence()) {
      Inputs.Run(cache, sequence, 512, 1, new Sha256());
      EvictReport report = sequence.Evict(new EvictOptions {Budget = 256, Recent = 32});
      for (int layer = 0; layer < Inputs.Layers; layer++) Console.WriteLine("layer " + layer + " live " + sequence.Live(layer, 0));
      Console.WriteLine("evicted " + report.TokensEvicted);
    }
  }
}
