package kvc;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import kvc.raw.kvc_keys;
import kvc.raw.kvc_options;
import kvc.raw.kvc_positions;
import kvc.raw.kvc_rope_pairs;

/** Shape, codec, memory and device of a cache. A field that is not set keeps its default; kvc.h says what each means. */
public final class CacheOptions {
  final kvc_options raw = new kvc_options();

  /** Which channels turn together. */
  public enum RopePairs {
    HALVES(kvc_rope_pairs.KVC_ROPE_HALVES),
    INTERLEAVED(kvc_rope_pairs.KVC_ROPE_INTERLEAVED);

    final kvc_rope_pairs raw;

    RopePairs(kvc_rope_pairs raw) { this.raw = raw; }
  }

  /** Whether keys and queries come turned. */
  public enum Keys {
    AFTER_ROPE(kvc_keys.KVC_KEYS_AFTER_ROPE),
    BEFORE_ROPE(kvc_keys.KVC_KEYS_BEFORE_ROPE);

    final kvc_keys raw;

    Keys(kvc_keys raw) { this.raw = raw; }
  }

  /** By which positions they turn. */
  public enum Positions {
    TRUE(kvc_positions.KVC_POSITIONS_TRUE),
    IN_CACHE(kvc_positions.KVC_POSITIONS_IN_CACHE);

    final kvc_positions raw;

    Positions(kvc_positions raw) { this.raw = raw; }
  }

  /** Held by a cache as long as it lives. */
  ByteBuffer block;

  public CacheOptions device(Device value) {
    raw.setDevice(value.raw.swigValue());
    return this;
  }

  /** Required. */
  public CacheOptions layers(long value) {
    raw.setLayers(value);
    return this;
  }

  /** Required. */
  public CacheOptions kvHeads(long value) {
    raw.setKv_heads(value);
    return this;
  }

  public CacheOptions qHeads(long value) {
    raw.setQ_heads(value);
    return this;
  }

  /** Required. */
  public CacheOptions kDim(long value) {
    raw.setK_dim(value);
    return this;
  }

  public CacheOptions vDim(long value) {
    raw.setV_dim(value);
    return this;
  }

  public CacheOptions slidingWindow(long value) {
    raw.setSliding_window(value);
    return this;
  }

  public CacheOptions codec(String value) {
    raw.setCodec(value);
    return this;
  }

  public CacheOptions target(String value) {
    raw.setTarget(value);
    return this;
  }

  public CacheOptions arenaBytes(long value) {
    raw.setArena_bytes(value);
    return this;
  }

  public CacheOptions arenaTokens(long value) {
    raw.setArena_tokens(value);
    return this;
  }

  public CacheOptions arenaSequences(long value) {
    raw.setArena_sequences(value);
    return this;
  }

  /**
   * The buffer, from position to limit, becomes the arena; the cache keeps it until it is closed, and with it the Arena of its memory, if it
   * is of one: Arena.close throws until then.
   */
  public CacheOptions arenaBlock(ByteBuffer block) {
    kvc.raw.kvc.direct("kvc_options", "arena_block", block, ByteOrder.nativeOrder(), true);
    kvc.raw.kvc.kvc_let_go(kvc.raw.kvc.kvc_hold(block)); // one that is closed is refused at once
    raw.setArena_block(kvc.raw.kvc.kvc_address_of(block));
    this.block = block;
    return arenaBytes(block.remaining());
  }

  /** Memory at an address, on the device if the cache is there: the caller keeps it until the cache is closed. */
  public CacheOptions arenaBlock(long address, long bytes) {
    block = null;
    raw.setArena_block(address);
    return arenaBytes(bytes);
  }

  public CacheOptions arenaGrowth(boolean value) {
    raw.setArena_growth(value ? 1 : 0);
    return this;
  }

  public CacheOptions sparePages(int value) {
    raw.setSpare_pages(value);
    return this;
  }

  public CacheOptions threads(long value) {
    raw.setThreads(value);
    return this;
  }

  public CacheOptions saturate(boolean value) {
    raw.setSaturate(value ? 1 : 0);
    return this;
  }

  public CacheOptions ropePairs(RopePairs value) {
    raw.setRope_pairs(value.raw.swigValue());
    return this;
  }

  public CacheOptions keys(Keys value) {
    raw.setKeys(value.raw.swigValue());
    return this;
  }

  public CacheOptions positions(Positions value) {
    raw.setPositions(value.raw.swigValue());
    return this;
  }

  public CacheOptions ropeTheta(double value) {
    raw.setRope_theta(value);
    return this;
  }

  public CacheOptions ropeDims(long value) {
    raw.setRope_dims(value);
    return this;
  }

  public CacheOptions policy(String value) {
    raw.setPolicy(value);
    return this;
  }

  public CacheOptions contextTokens(long value) {
    raw.setContext_tokens(value);
    return this;
  }

  public CacheOptions deviceOrdinal(long value) {
    raw.setDevice_ordinal(value);
    return this;
  }
}
