package kvc;

import kvc.raw.kvc_plan;

/** What a cache takes that is run as requested, to the byte: kvc_plan. */
public record Plan(
    long arenaBytes, long slabBytes, long recordBytes, long fp16Bytes, long maxTokens, long maxSequences, double codecBits,
    double effectiveBits, long checkpointBytes) {
  Plan(kvc_plan raw) {
    this(raw.getArena_bytes(), raw.getSlab_bytes(), raw.getRecord_bytes(), raw.getFp16_bytes(), raw.getMax_tokens(),
         raw.getMax_sequences(), raw.getCodec_bits(), raw.getEffective_bits(), raw.getCheckpoint_bytes());
  }
}
