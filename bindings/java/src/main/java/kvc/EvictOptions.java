package kvc;

import kvc.raw.kvc_evict_options;

/** What an eviction acts on and leaves. */
public final class EvictOptions {
  final kvc_evict_options raw = new kvc_evict_options();

  /** Layers acted on; all if not set. */
  public EvictOptions layers(long begin, long end) {
    raw.setLayer_begin(begin);
    raw.setLayer_end(end);
    return this;
  }

  /** Kv heads acted on; all if not set. */
  public EvictOptions heads(long begin, long end) {
    raw.setHead_begin(begin);
    raw.setHead_end(end);
    return this;
  }

  public EvictOptions budget(long value) {
    raw.setBudget(value);
    return this;
  }

  public EvictOptions recent(long value) {
    raw.setRecent(value);
    return this;
  }
}
