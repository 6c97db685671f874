package kvc;

import kvc.raw.kvc_prefix_hit;

/** A new sequence that holds the first {@code tokens} of a prompt; {@code shared}: the most that it shares with an entry. */
public record PrefixHit(Sequence sequence, long tokens, long shared) {
  PrefixHit(Sequence sequence, kvc_prefix_hit raw) { this(sequence, raw.getTokens(), raw.getShared()); }
}
