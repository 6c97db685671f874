package kvc;

import kvc.raw.kvc_layer;

/** What differs in one layer; a field that is not set means: as in CacheOptions. slidingWindow -1 = all tokens. */
public final class LayerOptions {
  final kvc_layer raw = new kvc_layer();

  public LayerOptions kvHeads(long value) {
    raw.setKv_heads(value);
    return this;
  }

  public LayerOptions qHeads(long value) {
    raw.setQ_heads(value);
    return this;
  }

  public LayerOptions kDim(long value) {
    raw.setK_dim(value);
    return this;
  }

  public LayerOptions vDim(long value) {
    raw.setV_dim(value);
    return this;
  }

  public LayerOptions slidingWindow(long value) {
    raw.setSliding_window(value);
    return this;
  }

  public LayerOptions codec(String value) {
    raw.setCodec(value);
    return this;
  }

  public LayerOptions ropeTheta(double value) {
    raw.setRope_theta(value);
    return this;
  }
}
