import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import kvc.EvictOptions;
import kvc.KvcException;
import kvc.Sequence;

/** What running streams give up when memory is full. */
final class Pressure {
  private Pressure() {}

  /** True if one of them gave something up; those first that hold the most. */
  static boolean relieve(List<Stream> running, Policy policy, Counters count) {
    if (!policy.stepDown() && policy.evictTo() == 0) return false;
    for (Sequence sequence : byWeight(running, policy)) {
      if (!gives(sequence, policy)) continue;
      (policy.stepDown() ? count.steppedDown : count.evicted).incrementAndGet();
      return true;
    }
    return false;
  }

  private static boolean gives(Sequence sequence, Policy policy) {
    try {
      return policy.stepDown() ? sequence.stepDown(null).pages() > 0
                               : sequence.evict(new EvictOptions().budget(policy.evictTo())).tokensEvicted() > 0;
    } catch (KvcException.NoMemory e) {
      return false; // what is left is written anew before the old goes, and even that found no room
    }
  }

  private static List<Sequence> byWeight(List<Stream> running, Policy policy) {
    Map<Sequence, Long> weight = new HashMap<>();
    List<Sequence> list = new ArrayList<>();
    for (Stream stream : running) {
      Sequence sequence = stream.sequence;
      list.add(sequence);
      weight.put(sequence, policy.stepDown() ? sequence.stats().recordBytes() : sequence.live(0, 0));
    }
    list.sort(Comparator.comparing(weight::get, Comparator.reverseOrder()));
    return list;
  }
}
