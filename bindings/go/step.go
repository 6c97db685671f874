package kvc

import (
	"runtime"

	"kvc/raw"
)

// Entry is one sequence of a step and the number of tokens that the step adds to it.
type Entry struct {
	Sequence *Sequence
	Tokens   int
}

// StepOptions says how the buffers of a step look, as kvc_step_options in kvc.h: a zero field means its default.
type StepOptions struct {
	KVDType, QDType, OutDType     DType
	KTokenStride, KHeadStride     int // in elements; 0 = dense
	VTokenStride, VHeadStride     int
	QTokenStride, QHeadStride     int
	OutTokenStride, OutHeadStride int
	PartialCommit                 bool
	Strict                        bool
	Accumulate                    bool
	Buffers                       Device  // where k, v, q, out and lse lie
	Stream                        uintptr // of the device, such as a CUstream; 0 = one of kvc's own
	Graph                         *Graph  // the step is captured in it, or replays it
}

// Step is one forward pass over a batch of sequences.
type Step struct {
	life
	cache      *Cache
	handle     uintptr
	kv, q, out DType
	device     bool // buffers lie on the device
}

// An abandoned step holds its sequences until the collector has aborted it: before that they could not be destroyed.
type abandoned struct {
	step      uintptr
	sequences []Entry
	graph     *Graph
}

// Begin starts a step and reserves all that it can need.
func (c *Cache) Begin(entries []Entry, options StepOptions) (*Step, error) {
	return c.begin(entries, nil, options)
}

// BeginAt is Begin with a guard against lost updates: positions, one for each entry, must equal the sequences' lengths.
func (c *Cache) BeginAt(entries []Entry, positions []int64, options StepOptions) (*Step, error) {
	return c.begin(entries, given(positions), options)
}

func (c *Cache) begin(entries []Entry, positions []int64, options StepOptions) (*Step, error) {
	s := &Step{cache: c, kv: options.KVDType, q: options.QDType, out: options.OutDType}
	s.device = options.Buffers != 0 && options.Buffers != CPU
	for _, dtype := range []*DType{&s.kv, &s.q, &s.out} {
		if *dtype == 0 {
			*dtype = F32
		}
	}
	for i := range entries {
		if err := c.takes("step_begin", entries[i].Sequence); err != nil {
			return nil, err
		}
	}
	err := c.call("step_begin", func(cache uintptr, x *crossing) raw.Kvc_status {
		x.sequences, x.counts = x.sequences[:0], x.counts[:0]
		for i := range entries {
			_, sequence := entries[i].Sequence.access()
			x.sequences, x.counts = append(x.sequences, sequence), append(x.counts, int64(entries[i].Tokens))
		}
		s.handle = raw.Kvc_step_begin(cache, x.sequences, x.counts, positions, x.stepOptions(options), x.failure)
		return x.made(s.handle != 0)
	})
	if err != nil {
		return nil, err
	}
	// That the entries are read here keeps their sequences through the call.
	held := abandoned{s.handle, append([]Entry(nil), entries...), options.Graph}
	s.cleanup = runtime.AddCleanup(s, func(a abandoned) {
		raw.Kvc_step_abort(a.step, nil)
		runtime.KeepAlive(a.sequences)
		runtime.KeepAlive(a.graph)
	}, held)
	return s, nil
}

// Begin starts a step over this sequence alone.
func (s *Sequence) Begin(tokens int, options StepOptions) (*Step, error) {
	if s == nil {
		return (*Cache)(nil).Begin([]Entry{{s, tokens}}, options)
	}
	return s.cache.Begin([]Entry{{s, tokens}}, options)
}

// Commit publishes all tokens of the step. On failure it stays open.
func (s *Step) Commit() error { return s.commit(nil) }

// CommitAccepted publishes the first accepted[i] tokens of each sequence, of a step with PartialCommit. On failure it stays open.
func (s *Step) CommitAccepted(accepted []int64) error { return s.commit(given(accepted)) }

func (s *Step) commit(accepted []int64) error {
	err := s.call("step_commit", func(step uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_step_commit(step, accepted, x.failure)
	})
	if err == nil {
		s.cleanup.Stop()
	}
	return err
}

// Abort ends the step as if it had never begun.
func (s *Step) Abort() error {
	err := s.call("step_abort", func(step uintptr, x *crossing) raw.Kvc_status { return raw.Kvc_step_abort(step, x.failure) })
	if err == nil {
		s.cleanup.Stop()
	}
	return err
}

// Close aborts the step unless it has ended: right after Begin, defer step.Close() undoes what no Commit follows.
func (s *Step) Close() error {
	if s == nil {
		return nil
	}
	return s.close(s.Abort)
}

// Append stores the keys and values of one layer: k [tokens, kv heads, k dim], v [tokens, kv heads, v dim], of the step's KVDType.
func Append[T Element](s *Step, layer int, k, v []T) error {
	if err := s.takes("append", "k and v", s.types().kv, DTypeOf[T]()); err != nil {
		return err
	}
	return s.AppendBytes(layer, bytesOf(k), bytesOf(v))
}

// AppendBytes is Append over the elements' bytes.
func (s *Step) AppendBytes(layer int, k, v []byte) error {
	if err := s.onHost("append"); err != nil {
		return err
	}
	return s.call("append", func(step uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_append(step, int64(layer), k, v, x.failure)
	})
}

// AttendOptions are those of one attend; a zero field means its default.
type AttendOptions struct {
	Scale         float32 // of the logits; 0 = 1 / sqrt(k dim)
	SoftCap       float32
	Partial       bool // leave learned sink logits out
	SlidingWindow int  // 0 = the layer's; -1 = none
	CausalOffset  int
}

// Attend computes attention of the step's tokens over their sequences: q [tokens, q heads, k dim] of QDType, out [tokens, q heads,
// v dim] of OutDType. A lse that is not empty gets the natural log-sum-exps [tokens, q heads].
func Attend[Q, O Element](s *Step, layer int, q []Q, out []O, lse []float32, options AttendOptions) error {
	types := s.types()
	if err := s.takes("attend", "q", types.q, DTypeOf[Q]()); err != nil {
		return err
	}
	if err := s.takes("attend", "out", types.out, DTypeOf[O]()); err != nil {
		return err
	}
	return s.AttendBytes(layer, bytesOf(q), bytesOf(out), lse, options)
}

// AttendBytes is Attend over the elements' bytes.
func (s *Step) AttendBytes(layer int, q, out []byte, lse []float32, options AttendOptions) error {
	if err := s.onHost("attend"); err != nil {
		return err
	}
	return s.call("attend", func(step uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_attend(step, int64(layer), q, out, lse, x.attendOptions(options), x.failure)
	})
}

type elementTypes struct{ kv, q, out DType }

// types of a step that is none are those of no step: the library refuses its handle.
func (s *Step) types() elementTypes {
	if s == nil {
		return elementTypes{}
	}
	return elementTypes{s.kv, s.q, s.out}
}

// takes refuses a slice whose elements are not of the type that the step was begun with: C would read their bytes as others.
func (s *Step) takes(operation, buffer string, expected, given DType) error {
	if s == nil || expected == given {
		return nil
	}
	return refuse(operation, "%s: elements of type 0x%x (the step was begun with 0x%x)", buffer, int32(given), int32(expected))
}

// onHost refuses Go's memory where the step expects the device's.
func (s *Step) onHost(operation string) error {
	if s == nil || !s.device {
		return nil
	}
	return refuse(operation, "the step's buffers lie on the device: hand over their addresses")
}

// stepOptions and attendOptions are the options in C's memory, set anew only if they differ from those of the last call.

func (x *crossing) stepOptions(o StepOptions) raw.Kvc_step_options {
	if o == (StepOptions{}) {
		return nil
	}
	if o != x.stepHolds {
		o.fill(x.step)
		x.stepHolds = o
	}
	return x.step
}

func (o *StepOptions) fill(to raw.Kvc_step_options) {
	to.SetKv_dtype(int32(o.KVDType))
	to.SetQ_dtype(int32(o.QDType))
	to.SetOut_dtype(int32(o.OutDType))
	to.SetK_token_stride(int64(o.KTokenStride))
	to.SetK_head_stride(int64(o.KHeadStride))
	to.SetV_token_stride(int64(o.VTokenStride))
	to.SetV_head_stride(int64(o.VHeadStride))
	to.SetQ_token_stride(int64(o.QTokenStride))
	to.SetQ_head_stride(int64(o.QHeadStride))
	to.SetOut_token_stride(int64(o.OutTokenStride))
	to.SetOut_head_stride(int64(o.OutHeadStride))
	to.SetPartial_commit(flag(o.PartialCommit))
	to.SetStrict(flag(o.Strict))
	to.SetAccumulate(flag(o.Accumulate))
	to.SetBuffers(int32(o.Buffers))
	to.SetStream(o.Stream)
	to.SetGraph(o.Graph.access())
}

func (x *crossing) attendOptions(o AttendOptions) raw.Kvc_attend_options {
	if o == (AttendOptions{}) {
		return nil
	}
	if o != x.attendHolds {
		o.fill(x.attend)
		x.attendHolds = o
	}
	return x.attend
}

func (o *AttendOptions) fill(to raw.Kvc_attend_options) {
	to.SetScale(o.Scale)
	to.SetSoft_cap(o.SoftCap)
	to.SetPartial(flag(o.Partial))
	to.SetSliding_window(int64(o.SlidingWindow))
	to.SetCausal_offset(int64(o.CausalOffset))
}
