package kvc

import "kvc/raw"

// Options shapes a cache, as kvc_options in kvc.h: a zero field means its default. Layers, KVHeads, KDim and one way to say how
// large the arena is are required.
type Options struct {
	Device         Device
	DeviceOrdinal  int
	Layers         int
	KVHeads        int
	QHeads         int
	KDim, VDim     int
	SlidingWindow  int
	Codec          string // preset, codec string, ladder or "@FILE"; "" = "int4"
	Target         string // kernel target to force, for tests
	ArenaBytes     int
	ArenaTokens    int
	ArenaSequences int
	ArenaBlock     uintptr // address of memory that is not Go's, kept by the cache until Close
	ArenaGrowth    bool
	SparePages     int32
	Threads        int
	Saturate       bool
	RopePairs      RopePairs
	Keys           KeyForm
	Positions      PositionForm
	RopeTheta      float64
	RopeDims       int
	Policy         string // eviction policy with its budget; "" = nothing is evicted
	ContextTokens  int
}

// Layer says what differs in one layer; a zero field means: as in Options.
type Layer struct {
	KVHeads, QHeads int
	KDim, VDim      int
	SlidingWindow   int // -1 = all tokens
	Codec           string
	RopeTheta       float64
}

// shape is Options and layers in C's memory, for one call.
type shape struct {
	options raw.Kvc_options
	layers  raw.Kvc_layer
	count   int64
}

func (o *Options) check(operation string, layers []Layer) error {
	if err := checkText(operation, "codec", o.Codec, raw.Kvc_codec_capacity()); err != nil {
		return err
	}
	if err := checkText(operation, "target", o.Target, raw.Kvc_target_capacity()); err != nil {
		return err
	}
	for i := range layers {
		if err := checkText(operation, "codec of a layer", layers[i].Codec, raw.Kvc_codec_capacity()); err != nil {
			return err
		}
	}
	return checkText(operation, "policy", o.Policy, raw.Kvc_policy_capacity())
}

// withShape hands options and layers to a call and frees them after it.
func withShape(operation string, o *Options, layers []Layer, run func(s shape, x *crossing) raw.Kvc_status) error {
	if err := o.check(operation, layers); err != nil {
		return err
	}
	s := shape{options: raw.NewKvc_options(), count: int64(len(layers))}
	defer raw.DeleteKvc_options(s.options)
	o.fill(s.options)
	if s.count > 0 {
		s.layers = raw.Kvc_layers_new(s.count)
		defer raw.Kvc_layers_delete(s.layers)
	}
	for i := range layers {
		layers[i].fill(raw.Kvc_layers_at(s.layers, int64(i)))
	}
	return cross(operation, func(x *crossing) raw.Kvc_status { return run(s, x) })
}

func (o *Options) fill(to raw.Kvc_options) {
	to.SetDevice(int32(o.Device))
	to.SetDevice_ordinal(int64(o.DeviceOrdinal))
	to.SetLayers(int64(o.Layers))
	to.SetKv_heads(int64(o.KVHeads))
	to.SetQ_heads(int64(o.QHeads))
	to.SetK_dim(int64(o.KDim))
	to.SetV_dim(int64(o.VDim))
	to.SetSliding_window(int64(o.SlidingWindow))
	to.SetCodec(o.Codec)
	to.SetTarget(o.Target)
	to.SetArena_bytes(int64(o.ArenaBytes))
	to.SetArena_tokens(int64(o.ArenaTokens))
	to.SetArena_sequences(int64(o.ArenaSequences))
	to.SetArena_block(o.ArenaBlock)
	to.SetArena_growth(flag(o.ArenaGrowth))
	to.SetSpare_pages(o.SparePages)
	to.SetThreads(int64(o.Threads))
	to.SetSaturate(flag(o.Saturate))
	to.SetRope_pairs(int32(o.RopePairs))
	to.SetKeys(int32(o.Keys))
	to.SetPositions(int32(o.Positions))
	to.SetRope_theta(o.RopeTheta)
	to.SetRope_dims(int64(o.RopeDims))
	to.SetPolicy(o.Policy)
	to.SetContext_tokens(int64(o.ContextTokens))
}

func (l *Layer) fill(to raw.Kvc_layer) {
	to.SetKv_heads(int64(l.KVHeads))
	to.SetQ_heads(int64(l.QHeads))
	to.SetK_dim(int64(l.KDim))
	to.SetV_dim(int64(l.VDim))
	to.SetSliding_window(int64(l.SlidingWindow))
	to.SetCodec(l.Codec)
	to.SetRope_theta(l.RopeTheta)
}

// Supports says whether New would take the options, without an arena: nil, or the error that New would give.
func Supports(options Options, layers ...Layer) error {
	return withShape("supports", &options, layers, func(s shape, x *crossing) raw.Kvc_status {
		return raw.Kvc_supports(s.options, s.layers, s.count, x.failure)
	})
}
