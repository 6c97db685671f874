package main

import (
	"encoding/binary"

	"kvc"
	"kvc/internal/numbers"
)

var dtypes = map[string]kvc.DType{"f32": kvc.F32, "f16": kvc.F16, "bf16": kvc.BF16}

// A step as the script began it: what its sequences were then decides what it is fed with.
type step struct {
	*kvc.Step
	rows       []rows
	kv, q, out kvc.DType
	padding    int // elements between the rows of a buffer
}

// rows are the new tokens of one sequence.
type rows struct {
	data  uint64
	first int // position
	n     int
}

func (s *step) tokens() int {
	n := 0
	for _, of := range s.rows {
		n += of.n
	}
	return n
}

func (r *replay) begin(o *operation) error {
	made := step{kv: choice(o, "kv", "f32", dtypes), q: choice(o, "q", "f32", dtypes), out: choice(o, "out", "f32", dtypes),
		padding: o.number("padding")}
	var entries []kvc.Entry
	var positions []int64
	for _, pair := range o.counts {
		of := r.sequences[pair.name]
		length, _ := of.Length()
		made.rows = append(made.rows, rows{of.data, length, pair.n})
		entries = append(entries, kvc.Entry{Sequence: of.Sequence, Tokens: pair.n})
		positions = append(positions, int64(length+o.number("position_error")))
	}
	options := kvc.StepOptions{KVDType: made.kv, QDType: made.q, OutDType: made.out, PartialCommit: o.flag("partial_commit"),
		Strict: o.flag("strict"), Accumulate: o.flag("accumulate")}
	if made.padding > 0 {
		shape := r.shapes.of(o) // strides hold for all layers: padding is for uniform ones
		options.KTokenStride = shape.KVHeads*shape.KDim + made.padding
		options.VTokenStride = shape.KVHeads*shape.VDim + made.padding
		options.QTokenStride = shape.QHeads*shape.KDim + made.padding
		options.OutTokenStride = shape.QHeads*shape.VDim + made.padding
	}
	var err error
	if o.flag("guard") || o.has("position_error") {
		made.Step, err = r.cache.BeginAt(entries, positions, options)
	} else {
		made.Step, err = r.cache.Begin(entries, options)
	}
	if err == nil {
		r.steps[o.name(0)] = made
	}
	return err
}

// padded makes room for rows of width elements; every byte of it is 0xff.
func padded[T kvc.Element](n, width, padding int) []T {
	bytes := make([]byte, n*(width+padding)*binary.Size(*new(T)))
	for i := range bytes {
		bytes[i] = 0xff
	}
	out := make([]T, n*(width+padding))
	if _, err := binary.Decode(bytes, binary.LittleEndian, out); err != nil {
		panic(err)
	}
	return out
}

// fill makes the input of an append or attend.
func fill[T kvc.Element](s *step, o *operation, part numbers.Part, heads, dim int) []T {
	width := heads * dim
	stride := width + s.padding
	out := padded[T](s.tokens(), width, s.padding)
	stream := numbers.Stream{Seed: uint64(o.number("seed")), Layer: int64(o.number("layer")), Part: part, Kind: o.word("kind", "")}
	token := 0
	for _, of := range s.rows {
		stream.Data = of.data
		for i := range of.n {
			numbers.Fill(out[token*stride:token*stride+width], stream, int64(of.first+i), int64(dim))
			token++
		}
	}
	if token > 0 {
		numbers.SetLast(out[:len(out)-s.padding], stream.Kind)
	}
	return out
}

func (r *replay) append(o *operation) error {
	s := r.steps[o.name(0)]
	switch s.kv {
	case kvc.F16:
		return appendAs[kvc.Float16](r, &s, o)
	case kvc.BF16:
		return appendAs[kvc.BFloat16](r, &s, o)
	}
	return appendAs[float32](r, &s, o)
}

func appendAs[T kvc.Element](r *replay, s *step, o *operation) error {
	shape := r.shapes.of(o)
	k := fill[T](s, o, numbers.Keys, shape.KVHeads, shape.KDim)
	v := fill[T](s, o, numbers.Values, shape.KVHeads, shape.VDim)
	return kvc.Append(s.Step, o.number("layer"), k, v)
}

func (r *replay) attend(o *operation) error {
	s := r.steps[o.name(0)]
	switch s.q {
	case kvc.F16:
		return attendFrom[kvc.Float16](r, &s, o)
	case kvc.BF16:
		return attendFrom[kvc.BFloat16](r, &s, o)
	}
	return attendFrom[float32](r, &s, o)
}

func attendFrom[Q kvc.Element](r *replay, s *step, o *operation) error {
	switch s.out {
	case kvc.F16:
		return attendAs[Q, kvc.Float16](r, s, o)
	case kvc.BF16:
		return attendAs[Q, kvc.BFloat16](r, s, o)
	}
	return attendAs[Q, float32](r, s, o)
}

func attendAs[Q, O kvc.Element](r *replay, s *step, o *operation) error {
	shape := r.shapes.of(o)
	tokens, width := s.tokens(), shape.QHeads*shape.VDim
	q := fill[Q](s, o, numbers.Queries, shape.QHeads, shape.KDim)
	out := padded[O](tokens, width, s.padding)
	var lse []float32
	if o.numberOr("lse", 1) != 0 {
		lse = make([]float32, tokens*shape.QHeads)
	}
	options := kvc.AttendOptions{Scale: float32(o.real("scale")), SoftCap: float32(o.real("soft_cap")), Partial: o.flag("partial"),
		SlidingWindow: o.number("sliding_window"), CausalOffset: o.number("causal_offset")}
	err := kvc.Attend(s.Step, o.number("layer"), q, out, lse, options)
	for token := range tokens {
		row := out[token*(width+s.padding) : (token+1)*(width+s.padding)]
		giveAll(r, row[:width])
		checkPadding(row[width:])
	}
	giveAll(r, lse)
	return err
}

// checkPadding wants every byte between the rows to be 0xff still.
func checkPadding[T kvc.Element](padding []T) {
	bytes, err := binary.Append(nil, binary.LittleEndian, padding)
	if err != nil {
		panic(err)
	}
	for _, b := range bytes {
		if b != 0xff {
			panic(fault("attend wrote between the rows of out"))
		}
	}
}

func (r *replay) commit(o *operation) error {
	if len(o.counts) == 0 {
		return r.steps[o.name(0)].Commit()
	}
	var accepted []int64
	for _, pair := range o.counts {
		accepted = append(accepted, int64(pair.n))
	}
	return r.steps[o.name(0)].CommitAccepted(accepted)
}

func (r *replay) abort(o *operation) error { return r.steps[o.name(0)].Abort() }
