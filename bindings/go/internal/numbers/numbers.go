// Package numbers makes the inputs that docs/SCRIPTS.md defines under "Numbers", the same in every language.
package numbers

import (
	"math"

	"kvc"
)

const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func key(from, number uint64) uint64 { return mix(from + golden*(number+1)) }

// Part says what a row is for.
type Part uint64

// The parts, as docs/SCRIPTS.md numbers them.
const (
	Keys Part = iota + 1
	Values
	Queries
	Scores
	SinkLogits
	Clusters
)

// Stream is an endless source of rows.
type Stream struct {
	Seed, Data uint64
	Layer      int64
	Part       Part
	Kind       string // "" = normal
}

// Row is the key of a position's numbers.
type Row uint64

// Row finds the numbers of one position.
func (s Stream) Row(position int64) Row {
	if s.Kind == "constant" {
		position = 0
	}
	where := key(key(s.Seed, s.Data), uint64(s.Layer)*8+uint64(s.Part))
	return Row(key(where, uint64(position)))
}

// Number is n(i), a bell around zero.
func (r Row) Number(i int64) int64 {
	bits := key(uint64(r), uint64(i))
	return int64(bits&0xffff+bits>>16&0xffff+bits>>32&0xffff+bits>>48) - 131070
}

// Fill writes one row [heads * dim] in a slice's own element type.
func Fill[T kvc.Element](out []T, s Stream, position, dim int64) {
	row := s.Row(position)
	dtype := kvc.DTypeOf[T]()
	for i := range out {
		out[i] = element[T](dtype, valueOf(s.Kind, dtype, row.Number(int64(i)), int64(i)%dim))
	}
}

func valueOf(kind string, dtype kvc.DType, n, channel int64) float32 {
	x := float32(n) / 65536
	switch dtype {
	case kvc.F16:
		x = float32(n>>7) / 512
	case kvc.BF16:
		x = float32(n>>10) / 64
	}
	sign := float32(1)
	if n < 0 {
		sign = -1
	}
	switch {
	case kind == "zero":
		return 0
	case kind == "sharp":
		return x * 16
	case kind == "outlier" && channel%16 == 3:
		return x * 32
	case kind == "tiny":
		return x / 16384
	case kind == "extreme":
		return 65280 * sign
	case kind == "huge" && dtype == kvc.F16:
		return float32(math.Inf(int(sign)))
	case kind == "huge":
		return 131072 * sign
	}
	return x
}

// SetLast replaces the last element as the kinds nan and inf want it.
func SetLast[T kvc.Element](out []T, kind string) {
	if len(out) == 0 {
		return
	}
	switch kind {
	case "nan":
		out[len(out)-1] = element[T](kvc.DTypeOf[T](), float32(math.NaN()))
	case "inf":
		out[len(out)-1] = element[T](kvc.DTypeOf[T](), float32(math.Inf(1)))
	}
}

// element holds a number that its type can hold exactly.
func element[T kvc.Element](dtype kvc.DType, x float32) T {
	switch dtype {
	case kvc.F16:
		return T(halfBits(x))
	case kvc.BF16:
		return T(math.Float32bits(x) >> 16)
	}
	return T(x)
}

func halfBits(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	size := math.Abs(float64(x))
	switch {
	case math.IsNaN(size):
		return 0x7e00
	case math.IsInf(size, 0):
		return sign | 0x7c00
	case size < 0x1p-14:
		return sign | uint16(size*0x1p24)
	}
	return sign | uint16(bits>>23&0xff-112)<<10 | uint16(bits>>13&0x3ff)
}
