package kvc

import (
	"testing"
	"unsafe"
)

// The shape of most tests' caches.
const layers, kvHeads, qHeads, dim = 2, 2, 4, 64

func options() Options {
	return Options{Layers: layers, KVHeads: kvHeads, QHeads: qHeads, KDim: dim, ArenaTokens: 4096, ArenaSequences: 4}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func newCache(t testing.TB) *Cache {
	cache := must(New(options()))
	t.Cleanup(func() { check(cache.Close()) })
	return cache
}

func newSequence(cache *Cache) *Sequence { return must(cache.NewSequence(SequenceOptions{})) }

// A pass is the buffers of one forward pass of n tokens.
type pass[T Element] struct {
	k, v, q []T
	out     []float32
	lse     []float32
}

func newPass[T Element](n int) pass[T] {
	p := pass[T]{k: make([]T, n*kvHeads*dim), v: make([]T, n*kvHeads*dim), q: make([]T, n*qHeads*dim),
		out: make([]float32, n*qHeads*dim), lse: make([]float32, n*qHeads)}
	for i := range p.k {
		p.k[i], p.v[i] = T(i%3), T(i%5)
	}
	return p
}

// run makes one forward pass over a sequence.
func run(s *Sequence, n int) error {
	step, err := s.Begin(n, StepOptions{})
	if err != nil {
		return err
	}
	defer step.Close()
	p := newPass[float32](n)
	for layer := range layers {
		if err := Append(step, layer, p.k, p.v); err != nil {
			return err
		}
		if err := Attend(step, layer, p.q, p.out, p.lse, AttendOptions{}); err != nil {
			return err
		}
	}
	return step.Commit()
}

// byteAt is the byte at an address of C's memory.
func byteAt(address uintptr) *byte { return *(**byte)(unsafe.Pointer(&address)) }
