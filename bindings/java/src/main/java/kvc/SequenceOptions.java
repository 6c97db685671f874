package kvc;

import kvc.raw.kvc_seq_options;

/** How a sequence begins. */
public final class SequenceOptions {
  final kvc_seq_options raw = new kvc_seq_options();

  public SequenceOptions firstPosition(long value) {
    raw.setFirst_position(value);
    return this;
  }

  public SequenceOptions promptLength(long value) {
    raw.setPrompt_length(value);
    return this;
  }
}
