import kvc.Cache;
import kvc.EvictOptions;
import kvc.EvictReport;
import kvc.Sequence;

/** A prompt of 512 tokens gives way to a budget: 256 stay in each layer and head, the newest 32 among them. */
final class BudgetEvict {
  public static void main(String[] arguments) {
    try (Cache cache = Inputs.newCache(); Sequence sequence = cache.newSequence()) {
      Inputs.run(cache, sequence, 512, 1, Inputs.sha256());
      EvictReport report = sequence.evict(new EvictOptions().budget(256).recent(32));
      for (int layer = 0; layer < Inputs.LAYERS; layer++) System.out.println("layer " + layer + " live " + sequence.live(layer, 0));
      System.out.println("evicted " + report.tokensEvicted());
    }
  }
}
