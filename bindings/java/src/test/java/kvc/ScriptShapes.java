package kvc;

import java.util.HashMap;
import java.util.Map;

/** Shapes and options of a script's cache. */
final class ScriptShapes {
  record Shape(long kvHeads, long qHeads, long kDim, long vDim) {}

  final Map<Long, ScriptLine> lines = new HashMap<>(); // "layer" lines
  CacheOptions options = new CacheOptions();
  LayerOptions[] layers = {}; // none if they are alike
  Shape[] shapes = {};

  void create(ScriptLine line) {
    long qHeads = line.number("q_heads"), vDim = line.number("v_dim"), kvHeads = line.number("kv_heads", 1), kDim = line.number("k_dim", 64);
    long window = line.number("sliding_window"), n = line.number("layers", 1);
    options = new CacheOptions().layers(n).kvHeads(kvHeads).qHeads(qHeads).kDim(kDim).vDim(vDim).slidingWindow(window)
        .arenaBytes(line.number("arena_bytes")).arenaTokens(line.number("arena_tokens")).arenaSequences(line.number("arena_sequences"))
        .arenaGrowth(line.flag("growth")).sparePages((int) line.number("spare_pages")).saturate(line.flag("saturate"))
        .keys(line.word("keys", "").equals("before") ? CacheOptions.Keys.BEFORE_ROPE : CacheOptions.Keys.AFTER_ROPE)
        .positions(line.word("positions", "").equals("in_cache") ? CacheOptions.Positions.IN_CACHE : CacheOptions.Positions.TRUE)
        .ropePairs(line.word("pairs", "").equals("interleaved") ? CacheOptions.RopePairs.INTERLEAVED : CacheOptions.RopePairs.HALVES)
        .ropeTheta(line.real("rope_theta")).ropeDims(line.number("rope_dims")).codec(line.word("codec", ""))
        .policy(line.word("policy", "")).contextTokens(line.number("context_tokens"));
    boolean uniform = lines.values().stream().allMatch(layer -> layer.arguments.isEmpty());
    int count = Math.toIntExact(Math.max(n, 1));
    layers = new LayerOptions[uniform ? 0 : count];
    shapes = new Shape[count];
    for (int i = 0; i < count; i++) {
      ScriptLine own = lines.get((long) i);
      if (own == null) own = ScriptLine.parseAll("layer " + i).get(0);
      long kv = own.number("kv_heads", kvHeads), k = own.number("k_dim", kDim);
      shapes[i] = new Shape(kv, own.number("q_heads", qHeads != 0 ? qHeads : kv), k, own.number("v_dim", vDim != 0 ? vDim : k));
      if (uniform) continue;
      layers[i] = new LayerOptions().kvHeads(shapes[i].kvHeads).qHeads(shapes[i].qHeads).kDim(shapes[i].kDim).vDim(shapes[i].vDim)
          .slidingWindow(own.number("sliding_window", window)).codec(own.word("codec", line.word("codec", "")))
          .ropeTheta(own.has("rope_theta") ? own.real("rope_theta") : line.real("rope_theta"));
    }
  }

  /** The shape of the layer that a line names, or of the first one if there is no such layer. */
  Shape of(ScriptLine line) {
    if (shapes.length == 0) throw new ScriptLine.Nonsense("no cache was created");
    long layer = line.number("layer");
    return shapes[layer >= 0 && layer < shapes.length ? (int) layer : 0];
  }

  interface RowOf {
    void row(int layer, long head);
  }

  /** The rows [layers acted on][heads acted on] of an evict or merge line. */
  void eachRow(ScriptLine line, RowOf call) {
    ScriptLine.Range acted = line.range("layers"), heads = line.range("heads");
    long end = acted.end() == 0 ? shapes.length : Math.min(acted.end(), shapes.length);
    for (int layer = (int) Math.max(acted.begin(), 0); layer < end; layer++) {
      long last = heads.end() == 0 ? heads.begin() + shapes[layer].kvHeads : heads.end();
      for (long head = heads.begin(); head < last; head++) call.row(layer, head);
    }
  }
}
