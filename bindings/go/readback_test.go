package kvc

import (
	"slices"
	"testing"

	"kvc/raw"
)

// A commit may evict or add tokens between the question how many there are and their reading. Whatever it does, the list is that of
// one moment.
func TestReadBackWhileTheSequenceChanges(t *testing.T) {
	sequence := newSequence(newCache(t))
	check(run(sequence, 600))
	buffer := make([]int64, 0, 1000)
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"an eviction", func() { must(sequence.Evict(EvictOptions{Budget: 400})) }},
		{"a longer sequence", func() { check(run(sequence, 50)) }},
		{"the end of all tokens", func() { check(sequence.Truncate(0, CutInexact)) }},
		{"the first tokens", func() { check(run(sequence, 5)) }},
	} {
		for _, with := range [][]int64{nil, buffer} {
			do := change.do
			got := must(sequence.perToken("seq_positions",
				func(cache uintptr, of, layer, head int64, out []int64, tokens *int64, failure raw.Kvc_error) raw.Kvc_status {
					do()
					do = func() {}
					return raw.Kvc_seq_positions(cache, of, layer, head, out, tokens, failure)
				}, 0, 0, with))
			if now := must(sequence.Positions(0, 0, nil)); !slices.Equal(got, now) || len(got) != must(sequence.Live(0, 0)) {
				t.Errorf("with %s meanwhile: %d positions, where there are %d", change.name, len(got), len(now))
			}
		}
	}
	_, err := sequence.Positions(layers, 0, nil)
	wants(t, err, ErrArgument, "seq_positions", "layer")
}
