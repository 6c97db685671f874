package kvc

import (
	"runtime"

	"kvc/raw"
)

// Sequence is a stream of tokens in a cache.
type Sequence struct {
	life
	cache  *Cache
	handle int64
}

// SequenceOptions says where a sequence begins and which of its tokens are its prompt.
type SequenceOptions struct {
	FirstPosition int
	PromptLength  int
}

func (o *SequenceOptions) fill(to raw.Kvc_seq_options) {
	to.SetFirst_position(int64(o.FirstPosition))
	to.SetPrompt_length(int64(o.PromptLength))
}

// An owned sequence is what the collector needs to destroy one: no pointer, so that it goes before or after its cache.
type owned struct {
	cache    uintptr
	sequence int64
}

// adopt makes an object of a new sequence's handle.
func (c *Cache) adopt(handle int64) *Sequence {
	s := &Sequence{cache: c, handle: handle}
	s.cleanup = runtime.AddCleanup(s, func(o owned) { raw.Kvc_seq_destroy(o.cache, o.sequence, nil) }, owned{c.handle, handle})
	return s
}

// takes refuses a sequence of another cache, which could have the number of one of ours.
func (c *Cache) takes(operation string, s *Sequence) error {
	if c == nil || s == nil || s.cache == nil || s.cache == c {
		return nil // what is none the library refuses itself
	}
	return &Error{ErrHandle, operation, "a sequence belongs to another cache"}
}

// NewSequence makes an empty sequence.
func (c *Cache) NewSequence(options SequenceOptions) (*Sequence, error) {
	with := raw.NewKvc_seq_options()
	defer raw.DeleteKvc_seq_options(with)
	options.fill(with)
	var handle int64
	err := c.call("seq_create", func(cache uintptr, x *crossing) raw.Kvc_status {
		handle = raw.Kvc_seq_create(cache, with, x.failure)
		return x.made(handle != 0)
	})
	if err != nil {
		return nil, err
	}
	return c.adopt(handle), nil
}

// Close destroys the sequence, which is ErrBusy while it belongs to an open step; further calls of Close do nothing.
func (s *Sequence) Close() error {
	if s == nil {
		return nil
	}
	return s.close(s.Destroy)
}

// Destroy is Close for those who want to know: it is ErrHandle if the sequence has ended before.
func (s *Sequence) Destroy() error {
	err := s.call("seq_destroy", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_destroy(cache, sequence, x.failure)
	})
	if err == nil {
		s.cleanup.Stop()
	}
	return err
}

// Fork makes a new sequence with the tokens below position length.
func (s *Sequence) Fork(length int, cut Cut) (*Sequence, error) {
	var handle int64
	err := s.call("seq_fork", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		handle = raw.Kvc_seq_fork(cache, sequence, int64(length), int32(cut), x.failure)
		return x.made(handle != 0)
	})
	if err != nil {
		return nil, err
	}
	return s.cache.adopt(handle), nil
}

// Truncate forgets the tokens at position length and above.
func (s *Sequence) Truncate(length int, cut Cut) error {
	return s.call("seq_truncate", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_truncate(cache, sequence, int64(length), int32(cut), x.failure)
	})
}

// Length is the position of the next token.
func (s *Sequence) Length() (int, error) {
	return s.number("seq_length", func(cache uintptr, sequence int64, out *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_length(cache, sequence, out, x.failure)
	})
}

// ExactFloor is the lowest length to which Truncate and Fork are exact.
func (s *Sequence) ExactFloor() (int, error) {
	return s.number("seq_exact_floor", func(cache uintptr, sequence int64, out *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_exact_floor(cache, sequence, out, x.failure)
	})
}

// Live counts the tokens that one layer and kv head keeps.
func (s *Sequence) Live(layer, head int) (int, error) {
	return s.number("seq_live", func(cache uintptr, sequence int64, out *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_live(cache, sequence, int64(layer), int64(head), out, x.failure)
	})
}

// StepLimit is the most tokens that a step may add.
func (s *Sequence) StepLimit() (int, error) {
	return s.number("seq_step_limit", func(cache uintptr, sequence int64, out *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_step_limit(cache, sequence, out, x.failure)
	})
}

// SetPrompt says that queries at positions below end use the prompt kernels.
func (s *Sequence) SetPrompt(end int) error {
	return s.call("seq_prompt_set", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_prompt_set(cache, sequence, int64(end), x.failure)
	})
}

// SetBudget replaces the amount of the cache's policy for this sequence; 0 = the policy's own again.
func (s *Sequence) SetBudget(budget int) error {
	return s.call("seq_budget_set", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_budget_set(cache, sequence, int64(budget), x.failure)
	})
}
