// Prefix and fork: what was computed for one prompt serves the next that begins alike, and two continuations share their past.
package main

import (
	"fmt"

	"kvc"
	"kvc/examples/model"
)

// The model's input: token i of every prompt here has the id 1000 i + 7.
func ids(n int) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = int64(1000*i + 7)
	}
	return list
}

func length(sequence *kvc.Sequence) int {
	n, err := sequence.Length()
	model.Check(err)
	return n
}

func main() {
	cache := model.NewCache()
	defer cache.Close()
	first := model.NewSequence(cache)
	defer first.Close()
	model.Run(first, 200, 1)
	model.Check(first.Publish(ids(200), "tenant", kvc.PrefixOptions{}))

	found, hit, err := cache.Lookup(ids(250), "tenant", kvc.SequenceOptions{})
	model.Check(err)
	defer found.Close()
	fmt.Printf("hit %d\n", hit.Tokens)

	fork, err := found.Fork(length(found), kvc.CutExact)
	model.Check(err)
	defer fork.Close()
	model.Run(fork, 10, 2)
	fmt.Printf("original %d fork %d\n", length(found), length(fork))
}
