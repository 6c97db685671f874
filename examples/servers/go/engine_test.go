package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"kvc"
)

const (
	textTokens = 150
	prompt     = "<|im_start|>user\nTell me a long story about a river, a mill and a miller's daughter.<|im_end|>\n<|im_start|>assistant\n"
)

// start runs an engine over fp16 pages, whose admission lets in so many times what fits.
func start(t *testing.T, arenaBytes int, times float64) *Engine {
	t.Helper()
	model, err := OpenModel("../../../build/servers/model", 2)
	if err != nil {
		t.Fatal(err)
	}
	options := kvc.Options{Layers: model.layers, KVHeads: model.kvHeads, QHeads: model.qHeads, KDim: model.headDim, Codec: "fp16",
		ArenaBytes: arenaBytes, Threads: 1, ContextTokens: model.context}
	cache, err := kvc.New(options)
	if err != nil {
		t.Fatal(err)
	}
	engine := newEngine(model, cache, newAdmission(options, Policy{most: times, planned: "fp16"}), 0)
	go engine.Run()
	t.Cleanup(func() {
		engine.Shutdown(time.Second)
		if stats, err := cache.Stats(); err != nil || stats.Sequences != 0 || stats.RecordBytes != 0 {
			t.Errorf("left behind: %+v, %v", stats, err)
		}
		cache.Close()
		model.Close()
	})
	return engine
}

func submit(t *testing.T, engine *Engine) *Stream {
	t.Helper()
	tokens, err := engine.model.Encode(prompt)
	if err != nil {
		t.Fatal(err)
	}
	stream := newStream(context.Background(), tokens, textTokens, 0)
	if err := engine.Submit(stream); err != nil {
		t.Fatal(err)
	}
	return stream
}

func text(t *testing.T, stream *Stream) string {
	t.Helper()
	var out strings.Builder
	for event := range stream.events {
		if event.err != nil {
			t.Fatal(event.err)
		}
		out.WriteString(event.text)
		if event.finish != "" {
			break
		}
	}
	return out.String()
}

// Admission that lets in too many makes streams lose their sequences; what they write stays the same.
func TestPreemptedStreamsGoOnAsIfNothingHadHappened(t *testing.T) {
	const room = 12 << 20 // two of the streams
	alone := start(t, room, 1)
	expected := text(t, submit(t, alone))
	if len(expected) < 200 || alone.count.preempted.Load() != 0 {
		t.Fatalf("alone: %q, %d preemptions", expected, alone.count.preempted.Load())
	}
	crowded := start(t, room, 2)
	var streams []*Stream
	for range 4 {
		streams = append(streams, submit(t, crowded))
	}
	for i, stream := range streams {
		if got := text(t, stream); got != expected {
			t.Errorf("stream %d: %q, alone %q", i, got, expected)
		}
	}
	if crowded.count.preempted.Load() == 0 {
		t.Error("nothing was preempted: the test is too small")
	}
}

// A model is not freed under a text that is being encoded, which a client can make last longer than the end.
func TestAModelThatEncodesIsNotFreed(t *testing.T) {
	model, err := OpenModel("../../../build/servers/model", 1)
	if err != nil {
		t.Fatal(err)
	}
	model.encoding.RLock() // as an Encode under way
	model.Close()
	if tokens, err := model.Encode("a"); err != nil || len(tokens) != 1 {
		t.Fatalf("a model in use was closed: %v, %v", tokens, err)
	}
	model.encoding.RUnlock()
	model.Close()
	if _, err := model.Encode("a"); !errors.Is(err, errClosed) {
		t.Fatalf("a closed model encodes: %v", err)
	}
}

func TestAPromptWithoutTokensIsRefused(t *testing.T) {
	engine := start(t, 12<<20, 1)
	if err := engine.Submit(newStream(context.Background(), nil, 1, 0)); !errors.Is(err, errInvalid) {
		t.Errorf("it was taken: %v", err)
	}
}

func TestHalvesOfSurrogatePairsAreFound(t *testing.T) {
	for text, half := range map[string]bool{`"a"`: false, `"\ud83d\ude00"`: false, `"\\ud83d"`: false, `"\u00e9\n\\"`: false, `"\ud83d"`: true,
		`"\ud83d\u0041"`: true, `"\ude00\ud83d"`: true, `"\ud83d\\ude00"`: true, `"\ud83d\ude00\ude00"`: true, `"\\\udc00"`: true} {
		if got := hasHalfPair([]byte(text)); got != half {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestSystemPromptsEndBehindTheirMark(t *testing.T) {
	opening, end := []int64{1, 9}, int64(2)
	long := make([]int64, 100)
	copy(long, opening)
	cases := []struct {
		mark, length, expected int
	}{{70, 100, 72}, {62, 100, 64}, {61, 100, 0}, {70, 72, 0}, {70, 73, 72}, {200, 100, 0}}
	for _, c := range cases {
		tokens := append([]int64(nil), long[:c.length]...)
		if c.mark < c.length {
			tokens[c.mark] = end
		}
		if got := systemTokens(tokens, opening, end); got != c.expected {
			t.Errorf("mark at %d of %d: %d tokens, expected %d", c.mark, c.length, got, c.expected)
		}
	}
	if got := systemTokens(long, []int64{1, 8}, end); got != 0 {
		t.Errorf("another opening: %d tokens", got)
	}
}

func TestThreadsAreAsManyAsProcessorsAndTheModelLibraryAllow(t *testing.T) {
	if got := [3]int{defaultThreads(2), defaultThreads(257), defaultThreads(300)}; got != [3]int{2, 257, 257} {
		t.Error(got)
	}
}
