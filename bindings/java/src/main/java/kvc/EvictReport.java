package kvc;

import kvc.raw.kvc_evict_report;

/** What an eviction or a merge did: kvc_evict_report. */
public record EvictReport(
    long tokensEvicted, long recordsFreed, long bytesFreed, long tokensRepacked, long tokensMerged) {
  EvictReport(kvc_evict_report raw) {
    this(raw.getTokens_evicted(), raw.getRecords_freed(), raw.getBytes_freed(), raw.getTokens_repacked(),
         raw.getTokens_merged());
  }
}
