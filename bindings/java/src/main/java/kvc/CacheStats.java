package kvc;

import kvc.raw.kvc_stats;

/** A cache in numbers: kvc_stats. */
public record CacheStats(
    int openSteps, long arenaBytes, long boundBytes, long recordBytes, long sinkBytes, long windowBytes, long codeBytes,
    long sideBytes, long reservedBytes, long tableBytes, long scratchBytes, long sequences, long tokensAppended,
    long tokensEvicted, long pagesQuantized, long tokensRequantized, long slowCalls, long tokensMerged, long synchronizations,
    long bytesStaged) {
  CacheStats(kvc_stats raw) {
    this(raw.getOpen_steps(), raw.getArena_bytes(), raw.getBound_bytes(), raw.getRecord_bytes(), raw.getSink_bytes(),
         raw.getWindow_bytes(), raw.getCode_bytes(), raw.getSide_bytes(), raw.getReserved_bytes(), raw.getTable_bytes(),
         raw.getScratch_bytes(), raw.getSequences(), raw.getTokens_appended(), raw.getTokens_evicted(),
         raw.getPages_quantized(), raw.getTokens_requantized(), raw.getSlow_calls(), raw.getTokens_merged(),
         raw.getSynchronizations(), raw.getBytes_staged());
  }
}
