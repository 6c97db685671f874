package kvc

import (
	"errors"

	"kvc/raw"
)

// Read writes live tokens first .. first + n of one layer and kv head to out, f32 [n, dim].
func (s *Sequence) Read(layer, head int, part Part, first, n int, out []float32) error {
	return s.call("seq_read", func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_read(cache, sequence, int64(layer), int64(head), int32(part), int64(first), int64(n), out, x.failure)
	})
}

// ReadCodes writes the integer codes of the tokens in compressed pages to out, [tokens, dim], and says how many tokens they are;
// with an empty out only that.
func (s *Sequence) ReadCodes(layer, head int, part Part, out []byte) (int, error) {
	return s.number("seq_read_codes", func(cache uintptr, sequence int64, tokens *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_seq_read_codes(cache, sequence, int64(layer), int64(head), int32(part), out, tokens, x.failure)
	})
}

// Positions, ReadMass, ReadCounts and ReadRungs give one number for each live token of a layer and kv head. They use the memory of
// buffer if it is large enough; nil is fine.

// Positions are those of the live tokens, ascending.
func (s *Sequence) Positions(layer, head int, buffer []int64) ([]int64, error) {
	return s.perToken("seq_positions", raw.Kvc_seq_positions, layer, head, buffer)
}

// ReadMass is the attention mass of each live token, in units of 2^-30.
func (s *Sequence) ReadMass(layer, head int, buffer []int64) ([]int64, error) {
	return s.perToken("seq_read_mass", raw.Kvc_seq_read_mass, layer, head, buffer)
}

// ReadCounts is how many tokens each live token stands for.
func (s *Sequence) ReadCounts(layer, head int, buffer []int64) ([]int64, error) {
	return s.perToken("seq_read_counts", raw.Kvc_seq_read_counts, layer, head, buffer)
}

// ReadRungs is the rung of each live token's page; -1 for tokens that are not coded.
func (s *Sequence) ReadRungs(layer, head int, buffer []int64) ([]int64, error) {
	return s.perToken("seq_read_rungs", raw.Kvc_seq_read_rungs, layer, head, buffer)
}

func (s *Sequence) perToken(operation string,
	read func(cache uintptr, sequence, layer, head int64, out []int64, tokens *int64, failure raw.Kvc_error) raw.Kvc_status,
	layer, head int, buffer []int64) ([]int64, error) {
	for {
		live, failure := s.Live(layer, head) // what fails here fails below, too, in the name of the operation
		if cap(buffer) < live {
			buffer = make([]int64, live)
		}
		buffer = buffer[:live]
		var tokens int64
		err := s.call(operation, func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
			return read(cache, sequence, int64(layer), int64(head), buffer, &tokens, x.failure)
		})
		if err == nil {
			return buffer[:tokens], nil // fewer than were live where a commit has evicted meanwhile
		}
		if failure != nil || !errors.Is(err, ErrArgument) { // that there is no room is all that can be wrong with the arguments
			return nil, err
		}
	}
}
