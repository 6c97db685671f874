// Package model stands for a language model in the examples: it has the shape of a small one, and its keys, values and queries are
// the numbers of docs/SCRIPTS.md.
package model

import (
	"log"

	"kvc"
	"kvc/internal/numbers"
)

// The shape of every example's cache.
const Layers, KVHeads, QHeads, Dim = 2, 2, 4, 64

// NewCache makes the cache of every example.
func NewCache() *kvc.Cache { return NewCacheAt(kvc.CPU, 0) }

// NewCacheAt makes the same cache on a device. On the CPU its kernels are those that give the same bits on every machine.
func NewCacheAt(device kvc.Device, ordinal int) *kvc.Cache {
	options := kvc.Options{Layers: Layers, KVHeads: KVHeads, QHeads: QHeads, KDim: Dim, Codec: "int4", ArenaTokens: 4096,
		Device: device, DeviceOrdinal: ordinal}
	if device == kvc.CPU {
		options.Target = "scalar"
	}
	cache, err := kvc.New(options)
	Check(err)
	return cache
}

// NewSequence makes an empty sequence.
func NewSequence(cache *kvc.Cache) *kvc.Sequence {
	sequence, err := cache.NewSequence(kvc.SequenceOptions{})
	Check(err)
	return sequence
}

// Run is one forward pass over one sequence: each layer appends its keys and values and attends. It gives the outputs of all layers.
func Run(sequence *kvc.Sequence, tokens int, data uint64) []float32 {
	return RunLayers(sequence, tokens, data, kvc.StepOptions{}, func(step *kvc.Step, layer int, k, v, q, out []float32) {
		Check(kvc.Append(step, layer, k, v))
		Check(kvc.Attend(step, layer, q, out, nil, kvc.AttendOptions{}))
	})
}

// RunLayers is Run where run does what a layer does.
func RunLayers(sequence *kvc.Sequence, tokens int, data uint64, options kvc.StepOptions,
	run func(step *kvc.Step, layer int, k, v, q, out []float32)) []float32 {
	first, err := sequence.Length()
	Check(err)
	step, err := sequence.Begin(tokens, options)
	Check(err)
	defer step.Close() // undoes the step if something below fails
	outputs := make([]float32, Layers*tokens*QHeads*Dim)
	for layer := range Layers {
		k := rows(numbers.Keys, layer, first, tokens, KVHeads, data)
		v := rows(numbers.Values, layer, first, tokens, KVHeads, data)
		q := rows(numbers.Queries, layer, first, tokens, QHeads, data)
		out := outputs[layer*tokens*QHeads*Dim:][:tokens*QHeads*Dim]
		run(step, layer, k, v, q, out)
	}
	Check(step.Commit())
	return outputs
}

func rows(part numbers.Part, layer, first, tokens, heads int, data uint64) []float32 {
	out := make([]float32, tokens*heads*Dim)
	stream := numbers.Stream{Seed: 1, Data: data, Layer: int64(layer), Part: part}
	for i := range tokens {
		numbers.Fill(out[i*heads*Dim:][:heads*Dim], stream, int64(first+i), Dim)
	}
	return out
}

// Check ends the program with an error.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
