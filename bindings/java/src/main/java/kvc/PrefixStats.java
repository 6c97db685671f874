package kvc;

import kvc.raw.kvc_prefix_stats;

/** The prefix index in numbers: kvc_prefix_stats. */
public record PrefixStats(
    long entries, long tokens, long recordBytes, long hostBytes, long budgetBytes, long hits, long misses, long hitTokens,
    long evictions) {
  PrefixStats(kvc_prefix_stats raw) {
    this(raw.getEntries(), raw.getTokens(), raw.getRecord_bytes(), raw.getHost_bytes(), raw.getBudget_bytes(), raw.getHits(),
         raw.getMisses(), raw.getHit_tokens(), raw.getEvictions());
  }
}
