// Budget and evict: of 512 tokens 256 stay, the newest 32 among them.
package main

import (
	"fmt"

	"kvc"
	"kvc/examples/model"
)

func main() {
	cache := model.NewCache()
	defer cache.Close()
	sequence := model.NewSequence(cache)
	defer sequence.Close()
	model.Run(sequence, 512, 1)
	report, err := sequence.Evict(kvc.EvictOptions{Budget: 256, Recent: 32})
	model.Check(err)
	for layer := range model.Layers {
		live, err := sequence.Live(layer, 0)
		model.Check(err)
		fmt.Printf("layer %d live %d\n", layer, live)
	}
	fmt.Printf("evicted %d\n", report.TokensEvicted)
}
