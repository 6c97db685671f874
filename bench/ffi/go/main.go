// What the calls of a decode step cost from Go; bench/README.md says what is timed.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"kvc"
)

const layers, kvHeads, qHeads, dim = 30, 3, 9, 64
const rounds, noOps, sequences, shortSteps = 21, 20000, 300, 32

var k, v, q, out = fill(kvHeads * dim), fill(kvHeads * dim), fill(qHeads * dim), make([]float32, qHeads*dim)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func median(samples []float64) float64 {
	slices.Sort(samples)
	return samples[len(samples)/2]
}

func fill(n int) []float32 {
	row := make([]float32, n)
	for i := range row {
		row[i] = float32(i*37%101-50) / 50
	}
	return row
}

func newCache(tokens int) *kvc.Cache {
	cache, err := kvc.New(kvc.Options{Layers: layers, KVHeads: kvHeads, QHeads: qHeads, KDim: dim, Codec: "int4", ArenaTokens: tokens})
	check(err)
	return cache
}

func newSequence(cache *kvc.Cache) *kvc.Sequence {
	sequence, err := cache.NewSequence(kvc.SequenceOptions{})
	check(err)
	return sequence
}

func begin(sequence *kvc.Sequence, tokens int) *kvc.Step {
	step, err := sequence.Begin(tokens, kvc.StepOptions{})
	check(err)
	return step
}

func noOpNs() float64 {
	var samples []float64
	for range rounds {
		sum, from := 0, time.Now()
		for range noOps {
			sum += kvc.ABIVersion()
		}
		samples = append(samples, float64(time.Since(from))/noOps)
		runtime.KeepAlive(sum)
	}
	return median(samples)
}

func callsNs() (append_, attend float64) {
	var appends, attends []float64
	cache := newCache(1024)
	defer cache.Close()
	for range sequences {
		sequence := newSequence(cache)
		for range shortSteps {
			step := begin(sequence, 1)
			from := time.Now()
			for layer := range layers {
				check(kvc.Append(step, layer, k, v))
			}
			middle := time.Now()
			for layer := range layers {
				check(kvc.Attend(step, layer, q, out, nil, kvc.AttendOptions{}))
			}
			end := time.Now()
			appends = append(appends, float64(middle.Sub(from))/layers)
			attends = append(attends, float64(end.Sub(middle))/layers)
			check(step.Commit())
		}
		check(sequence.Close())
	}
	return median(appends), median(attends)
}

func decode(sequence *kvc.Sequence) {
	step := begin(sequence, 1)
	for layer := range layers {
		check(kvc.Append(step, layer, k, v))
		check(kvc.Attend(step, layer, q, out, nil, kvc.AttendOptions{}))
	}
	check(step.Commit())
}

// A line on stdin asks for so many steps and is answered with the median of their second half; the end, with what one step allocates:
// objects of Go's heap.
func answer(context, mostSteps int) {
	cache := newCache(context + mostSteps)
	defer cache.Close()
	sequence := newSequence(cache)
	rows := slices.Repeat(k, context)
	step := begin(sequence, context)
	for layer := range layers {
		check(kvc.Append(step, layer, rows, rows))
	}
	check(step.Commit())
	var before, after runtime.MemStats
	allocated, taken := uint64(0), 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		steps, err := strconv.Atoi(lines.Text())
		check(err)
		samples := make([]float64, steps)
		runtime.ReadMemStats(&before)
		for i := range samples {
			from := time.Now()
			decode(sequence)
			samples[i] = float64(time.Since(from)) / 1000
		}
		runtime.ReadMemStats(&after)
		allocated, taken = allocated+after.Mallocs-before.Mallocs, taken+steps
		fmt.Printf("%.2f\n", median(samples[steps/2:]))
	}
	fmt.Printf("{\"allocated\": %.2f}\n", float64(allocated)/float64(taken))
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: ffi CONTEXT MOST_STEPS")
	}
	context, err := strconv.Atoi(os.Args[1])
	check(err)
	mostSteps, err := strconv.Atoi(os.Args[2])
	check(err)
	noOp := noOpNs()
	append_, attend := callsNs()
	fmt.Printf("{\"noop_ns\": %.2f, \"append_ns\": %.1f, \"attend_ns\": %.1f}\n", noOp, append_, attend)
	answer(context, mostSteps)
}
