// Snapshot: a sequence as bytes, and back; it goes on as if it had never been away.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"kvc/examples/model"
)

func main() {
	cache := model.NewCache()
	defer cache.Close()
	sequence := model.NewSequence(cache)
	model.Run(sequence, 200, 1)
	bytes, err := cache.Export(sequence)
	model.Check(err)
	model.Check(sequence.Close())
	fmt.Printf("bytes %d\n", len(bytes))

	restored, err := cache.Import(bytes)
	model.Check(err)
	defer restored[0].Close()
	length, err := restored[0].Length()
	model.Check(err)
	fmt.Printf("restored %d\n", length)

	hash := sha256.New()
	binary.Write(hash, binary.LittleEndian, model.Run(restored[0], 1, 1))
	fmt.Printf("sha256 %x\n", hash.Sum(nil))
}
