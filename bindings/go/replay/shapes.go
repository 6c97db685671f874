package main

import (
	"kvc"
	"kvc/internal/numbers"
)

// shapes are the cache's options and layers as the script gave them.
type shapes struct {
	lines   map[int]*operation // "layer" lines
	options kvc.Options
	layers  []kvc.Layer // one for each layer, with no zero left in what shapes need
}

var (
	keyForms      = map[string]kvc.KeyForm{"after": kvc.KeysAfterRope, "before": kvc.KeysBeforeRope}
	positionForms = map[string]kvc.PositionForm{"true": kvc.PositionsTrue, "in_cache": kvc.PositionsInCache}
	ropePairs     = map[string]kvc.RopePairs{"halves": kvc.RopeHalves, "interleaved": kvc.RopeInterleaved}
)

func (s *shapes) set(o *operation, target string, threads int) {
	s.options = kvc.Options{
		Layers: o.numberOr("layers", 1), KVHeads: o.numberOr("kv_heads", 1), QHeads: o.number("q_heads"),
		KDim: o.numberOr("k_dim", 64), VDim: o.number("v_dim"), SlidingWindow: o.number("sliding_window"),
		Codec: o.word("codec", ""), Target: target, Threads: threads,
		ArenaBytes: o.number("arena_bytes"), ArenaTokens: o.number("arena_tokens"), ArenaSequences: o.number("arena_sequences"),
		ArenaGrowth: o.flag("growth"), SparePages: int32(o.number("spare_pages")), Saturate: o.flag("saturate"),
		Keys:      choice(o, "keys", "after", keyForms),
		Positions: choice(o, "positions", "true", positionForms),
		RopePairs: choice(o, "pairs", "halves", ropePairs),
		RopeTheta: o.real("rope_theta"), RopeDims: o.number("rope_dims"),
		Policy: o.word("policy", ""), ContextTokens: o.number("context_tokens"),
	}
	s.layers = make([]kvc.Layer, max(s.options.Layers, 1))
	for i := range s.layers {
		line := s.lines[i]
		if line == nil {
			line = &operation{}
		}
		s.layers[i] = s.layer(line)
	}
}

// layer is what a "layer" line says, with what it leaves out as in the options.
func (s *shapes) layer(line *operation) kvc.Layer {
	o := s.options
	l := kvc.Layer{KVHeads: line.numberOr("kv_heads", o.KVHeads), KDim: line.numberOr("k_dim", o.KDim),
		SlidingWindow: line.numberOr("sliding_window", o.SlidingWindow), Codec: line.word("codec", o.Codec), RopeTheta: o.RopeTheta}
	if line.has("rope_theta") {
		l.RopeTheta = line.real("rope_theta")
	}
	l.QHeads, l.VDim = o.QHeads, o.VDim
	if l.QHeads == 0 {
		l.QHeads = l.KVHeads
	}
	if l.VDim == 0 {
		l.VDim = l.KDim
	}
	l.QHeads, l.VDim = line.numberOr("q_heads", l.QHeads), line.numberOr("v_dim", l.VDim)
	return l
}

// differing are the layers for kvc.New: none if no line said anything.
func (s *shapes) differing() []kvc.Layer {
	for _, line := range s.lines {
		if len(line.arguments) > 0 {
			return s.layers
		}
	}
	return nil
}

// of is the layer that an operation names, or the first one if there is no such layer.
func (s *shapes) of(o *operation) kvc.Layer {
	if len(s.layers) == 0 {
		panic(fault("no cache was created"))
	}
	if layer := o.number("layer"); layer >= 0 && layer < s.options.Layers {
		return s.layers[layer]
	}
	return s.layers[0]
}

func (s *shapes) sinkLogits(o *operation) []float32 {
	logits := make([]float32, o.numberOr("n", s.of(o).QHeads))
	stream := numbers.Stream{Seed: uint64(o.number("seed")), Layer: int64(o.number("layer")), Part: numbers.SinkLogits,
		Kind: o.word("kind", "")}
	if len(logits) == 0 {
		return nil
	}
	numbers.Fill(logits, stream, 0, int64(len(logits)))
	return logits
}

// eachHead visits the layers and kv heads that an evict or merge line acts on.
func (s *shapes) eachHead(o *operation, visit func(layer, head int)) {
	layerBegin, layerEnd := o.span("layers")
	headBegin, headEnd := o.span("heads")
	if layerEnd == 0 {
		layerEnd = s.options.Layers
	}
	for layer := max(layerBegin, 0); layer < min(layerEnd, s.options.Layers); layer++ {
		end := headEnd
		if end == 0 {
			end = headBegin + s.layers[layer].KVHeads
		}
		for head := headBegin; head < end; head++ {
			visit(layer, head)
		}
	}
}
