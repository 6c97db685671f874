package kvc;

import kvc.raw.kvc_seq_stats;

/** A sequence in numbers: kvc_seq_stats. */
public record SequenceStats(
    long tokens, long recordBytes, long sharedBytes, long tableBytes, long fp16Bytes, double codecBits, double effectiveBits) {
  SequenceStats(kvc_seq_stats raw) {
    this(raw.getTokens(), raw.getRecord_bytes(), raw.getShared_bytes(), raw.getTable_bytes(), raw.getFp16_bytes(),
         raw.getCodec_bits(), raw.getEffective_bits());
  }
}
