package main

import (
	"strings"
	"testing"

	"kvc/raw"
)

// The calls of the hot path hand slices to C without a copy and without an allocation. A handle that is none makes them fail at once,
// so that only the way there and back is measured.
func TestHotCallsDoNotAllocate(t *testing.T) {
	const noStep = uintptr(0)
	k, out, lse := make([]byte, 1024), make([]byte, 1024), make([]float32, 16)
	seqs, counts := make([]int64, 4), make([]int64, 4)
	calls := map[string]func(){
		"begin":  func() { raw.Kvc_step_begin(noStep, seqs, counts, nil, nil, err) },
		"append": func() { raw.Kvc_append(noStep, 0, k, k, err) },
		"attend": func() { raw.Kvc_attend(noStep, 0, k, out, lse, nil, err) },
		"commit": func() { raw.Kvc_step_commit(noStep, nil, err) },
	}
	for name, call := range calls {
		if allocations := testing.AllocsPerRun(100, call); allocations != 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

// kvc_step_begin takes one length for two slices: Go panics before C could read past the shorter one.
func TestSequencesAndCountsOfDifferentLengthsPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	raw.Kvc_step_begin(0, make([]int64, 1), make([]int64, 2), nil, nil, err)
}

// A codec string that does not fit is refused; cut, it might be another codec.
func TestLongTextPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	raw.NewKvc_options().SetCodec(strings.Repeat("x", 128))
}
