import java.util.HashMap;
import java.util.Map;
import java.util.function.IntToLongFunction;
import kvc.CacheOptions;
import kvc.Kvc;
import kvc.PlanRequest;

/** Knows the share of the arena that a request takes, by kvc's planner. */
final class Admission {
  static final double TOLERANCE = 1e-9; // of sums of shares
  private final Policy policy;
  private final int context;
  private final IntToLongFunction planned;
  private final Map<Integer, Long> most = new HashMap<>(); // sequences by length

  /** options: those of the cache but for the codec, which is set here. */
  Admission(CacheOptions options, Policy policy, int context, long arenaBytes) {
    this.policy = policy;
    this.context = context;
    options.codec(policy.planned());
    planned = tokens
        -> Kvc.plan(options, new PlanRequest().tokens(tokens).stepTokens(Batch.ROWS).budgetBytes(arenaBytes)).maxSequences();
  }

  /** Share of a request with so many tokens in all; 0: the arena can never hold it. */
  double share(int tokens) {
    int rounded = Math.min((tokens + 63) / 64 * 64, context);
    if (policy.evictTo() > 0) rounded = (int) Math.min(rounded, (long) policy.evictTo() + Batch.ROWS);
    double share = 1.0 / most.computeIfAbsent(rounded, planned::applyAsLong); // infinite where none fits
    return share > policy.most() ? 0 : share;
  }

  Policy policy() { return policy; }
}
