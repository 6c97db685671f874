// The program of bindings/proof/proof.c over the raw Go layer; it prints the same digest.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"unsafe"

	"kvc/raw"
)

const layers, kvHeads, qHeads, dim = 2, 2, 4, 64

var hash = sha256.New()
var seed uint32 = 1
var err = raw.NewKvc_error()

func check(good bool) {
	if !good {
		log.Fatalf("%s: %s", raw.Kvc_status_name(err.GetStatus()), err.GetMessage())
	}
}

// Multiples of 2^-15 from an integer generator: exact in every language.
func fill(n int64) []float32 {
	data := make([]float32, n)
	for i := range data {
		seed = seed*1664525 + 1013904223
		data[i] = float32(int32(seed>>16)-32768) / 32768
	}
	return data
}

// The same memory, as bytes.
func bytes(data []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*4)
}

func runStep(cache uintptr, seq int64, tokens int64) {
	out, lse := make([]float32, tokens*qHeads*dim), make([]float32, tokens*qHeads)
	step := raw.Kvc_step_begin(cache, []int64{seq}, []int64{tokens}, nil, nil, err)
	check(step != 0)
	for layer := int64(0); layer < layers; layer++ {
		k, v, q := fill(tokens*kvHeads*dim), fill(tokens*kvHeads*dim), fill(tokens*qHeads*dim)
		check(raw.Kvc_append(step, layer, bytes(k), bytes(v), err) == raw.KVC_OK)
		check(raw.Kvc_attend(step, layer, bytes(q), bytes(out), lse, nil, err) == raw.KVC_OK)
		hash.Write(bytes(out))
		hash.Write(bytes(lse))
	}
	check(raw.Kvc_step_commit(step, nil, err) == raw.KVC_OK)
}

func readBack(cache uintptr, seq, layer, head int64) {
	var live int64
	check(raw.Kvc_seq_live(cache, seq, layer, head, &live, err) == raw.KVC_OK)
	positions, rows := make([]int64, live), make([]float32, live*dim)
	check(raw.Kvc_seq_positions(cache, seq, layer, head, positions, nil, err) == raw.KVC_OK)
	binary.Write(hash, binary.LittleEndian, positions)
	for _, part := range []raw.Kvc_part{raw.KVC_KEYS, raw.KVC_VALUES} {
		check(raw.Kvc_seq_read(cache, seq, layer, head, int32(part), 0, live, rows, err) == raw.KVC_OK)
		hash.Write(bytes(rows))
	}
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("proof.go: ")
	if mismatch := raw.Kvc_abi_mismatch(); mismatch != "" {
		log.Fatal(mismatch)
	}
	options := raw.NewKvc_options()
	options.SetLayers(layers)
	options.SetKv_heads(kvHeads)
	options.SetQ_heads(qHeads)
	options.SetK_dim(dim)
	options.SetV_dim(dim)
	options.SetArena_tokens(1024)
	options.SetCodec("int4")
	if len(os.Args) > 1 {
		options.SetTarget(os.Args[1])
	}
	cache := raw.Kvc_create(options, nil, 0, err)
	check(cache != 0)
	seq := raw.Kvc_seq_create(cache, nil, err)
	check(seq != 0)
	runStep(cache, seq, 200)
	for i := 0; i < 150; i++ {
		runStep(cache, seq, 1)
	}
	evict, report, stats := raw.NewKvc_evict_options(), raw.NewKvc_evict_report(), raw.NewKvc_stats()
	evict.SetBudget(256)
	check(raw.Kvc_evict(cache, seq, nil, evict, report, err) == raw.KVC_OK)
	for i := 0; i < 20; i++ {
		runStep(cache, seq, 1)
	}
	for layer := int64(0); layer < layers; layer++ {
		for head := int64(0); head < kvHeads; head++ {
			readBack(cache, seq, layer, head)
		}
	}
	check(raw.Kvc_stats_get(cache, stats, err) == raw.KVC_OK)
	binary.Write(hash, binary.LittleEndian, []int64{report.GetTokens_evicted(), report.GetRecords_freed(), report.GetBytes_freed(),
		stats.GetTokens_appended(), stats.GetTokens_evicted(), stats.GetPages_quantized(), stats.GetRecord_bytes(), stats.GetSequences()})
	check(raw.Kvc_destroy(cache, err) == raw.KVC_OK)
	if raw.Kvc_destroy(cache, err) != raw.KVC_E_HANDLE {
		log.Fatal("a cache was destroyed twice")
	}
	fmt.Printf("%x\n", hash.Sum(nil))
}
