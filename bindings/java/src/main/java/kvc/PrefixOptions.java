package kvc;

import kvc.raw.kvc_prefix_options;

/** How a prefix is published. */
public final class PrefixOptions {
  final kvc_prefix_options raw = new kvc_prefix_options();

  /** The entry stays until it is removed. */
  public PrefixOptions pinned(boolean value) {
    raw.setPinned(value ? 1 : 0);
    return this;
  }

  /** It holds codes alone; its length must be the codec's sinks and whole pages of 64. */
  public PrefixOptions seal(boolean value) {
    raw.setSeal(value ? 1 : 0);
    return this;
  }
}
