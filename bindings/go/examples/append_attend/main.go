// Append and attend: a prompt of 200 tokens, then 8 tokens one by one.
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
	defer sequence.Close()
	hash := sha256.New()
	binary.Write(hash, binary.LittleEndian, model.Run(sequence, 200, 1))
	for range 8 {
		binary.Write(hash, binary.LittleEndian, model.Run(sequence, 1, 1))
	}
	length, err := sequence.Length()
	model.Check(err)
	stats, err := sequence.Stats()
	model.Check(err)
	fmt.Printf("tokens %d\nsha256 %x\nrecord_bytes %d\n", length, hash.Sum(nil), stats.RecordBytes)
}
