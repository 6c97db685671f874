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

// Layers go to C as one block: the second layer's codec has to arrive, for what is no codec there makes the creation fail.
func TestLayersReachC(t *testing.T) {
	options, layers := raw.NewKvc_options(), raw.Kvc_layers_new(2)
	defer raw.Kvc_layers_delete(layers)
	options.SetLayers(2)
	options.SetKv_heads(1)
	options.SetK_dim(64)
	options.SetArena_tokens(256)
	second := raw.Kvc_layers_at(layers, 1)
	second.SetCodec("int8")
	if status := raw.Kvc_supports(options, layers, 2, err); status != raw.KVC_OK {
		t.Error(err.GetMessage())
	}
	second.SetCodec("no codec")
	if status := raw.Kvc_supports(options, layers, 2, err); status != raw.KVC_E_ARGUMENT || err.GetStatus() != int32(status) {
		t.Errorf("status %v, message %s", status, err.GetMessage())
	}
}

// A slice is a text buffer too: asked for the size first, then filled.
func TestCodecIsFormattedIntoASlice(t *testing.T) {
	text := make([]byte, raw.Kvc_codec_format("int4", nil, err))
	if raw.Kvc_codec_format("int4", text, err) != int64(len(text)) || !strings.HasPrefix(string(text), "k=int4") {
		t.Errorf("int4 is %q", text)
	}
}
