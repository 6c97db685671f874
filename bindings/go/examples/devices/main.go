// The same program on the CPU and on a GPU: the argument says where the cache lies, "cpu" or "cuda:0", and a second one names a file for
// what was attended to. A prompt of 200 tokens, then 8 tokens one by one; what is stored is the same on both, to the bit.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"kvc"
	"kvc/examples/model"
)

func main() {
	device, ordinal := kvc.CPU, 0
	if len(os.Args) > 1 && os.Args[1] != "cpu" {
		number, found := strings.CutPrefix(os.Args[1], "cuda:")
		parsed, err := strconv.Atoi(number)
		model.Check(err)
		if !found {
			model.Check(fmt.Errorf("%q is neither cpu nor cuda:NUMBER", os.Args[1]))
		}
		device, ordinal = kvc.CUDA, parsed
	}
	cache := model.NewCacheAt(device, ordinal)
	defer cache.Close()
	sequence := model.NewSequence(cache)
	defer sequence.Close()
	run := model.Run
	if device != kvc.CPU {
		buffers := newBuffers(cache, 200)
		defer buffers.close()
		run = buffers.run
	}
	outputs := run(sequence, 200, 1)
	for range 8 {
		outputs = append(outputs, run(sequence, 1, 1)...)
	}
	length, err := sequence.Length()
	model.Check(err)
	stats, err := sequence.Stats()
	model.Check(err)
	fmt.Printf("tokens %d\ncodes %x\nrecord_bytes %d\n", length, codes(sequence), stats.RecordBytes)
	if len(os.Args) > 2 {
		model.Check(os.WriteFile(os.Args[2], bytesOf(outputs), 0o600))
	}
}

// Buffers in the device's memory, for a step of so many tokens: k, v, q and out.
type buffers struct {
	cache        *kvc.Cache
	k, v, q, out *kvc.Buffer
}

func newBuffers(cache *kvc.Cache, tokens int) *buffers {
	make := func(heads int) *kvc.Buffer {
		buffer, err := cache.NewBuffer(kvc.BufferDevice, tokens*heads*model.Dim*4)
		model.Check(err)
		return buffer
	}
	return &buffers{cache, make(model.KVHeads), make(model.KVHeads), make(model.QHeads), make(model.QHeads)}
}

func (b *buffers) close() {
	for _, buffer := range []*kvc.Buffer{b.k, b.v, b.q, b.out} {
		model.Check(buffer.Close())
	}
}

func (b *buffers) run(sequence *kvc.Sequence, tokens int, data uint64) []float32 {
	options := kvc.StepOptions{Buffers: kvc.CUDA}
	return model.RunLayers(sequence, tokens, data, options, func(step *kvc.Step, layer int, k, v, q, out []float32) {
		model.Check(step.AppendMemory(layer, b.upload(b.k, k), b.upload(b.v, v)))
		there := kvc.Memory{Address: b.out.Address, Bytes: len(out) * 4}
		model.Check(step.AttendMemory(layer, b.upload(b.q, q), there, kvc.Memory{}, kvc.AttendOptions{}))
		here := make([]byte, there.Bytes)
		model.Check(b.cache.Download(here, there.Address))
		_, err := binary.Decode(here, binary.LittleEndian, out)
		model.Check(err)
	})
}

func (b *buffers) upload(to *kvc.Buffer, from []float32) kvc.Memory {
	model.Check(b.cache.Upload(to.Address, bytesOf(from)))
	return kvc.Memory{Address: to.Address, Bytes: len(from) * 4}
}

func bytesOf(numbers []float32) []byte {
	bytes, err := binary.Append(nil, binary.LittleEndian, numbers)
	model.Check(err)
	return bytes
}

// The digest of all codes that the sequence holds.
func codes(sequence *kvc.Sequence) []byte {
	hash := sha256.New()
	for layer := range model.Layers {
		for head := range model.KVHeads {
			for _, part := range []kvc.Part{kvc.Keys, kvc.Values} {
				tokens, err := sequence.ReadCodes(layer, head, part, nil)
				model.Check(err)
				out := make([]byte, tokens*model.Dim)
				_, err = sequence.ReadCodes(layer, head, part, out)
				model.Check(err)
				hash.Write(out)
			}
		}
	}
	return hash.Sum(nil)
}
