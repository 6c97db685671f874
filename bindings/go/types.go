package kvc

import (
	"unsafe"

	"kvc/raw"
)

// Float16 holds the bits of an IEEE half-precision number.
type Float16 uint16

// BFloat16 holds the upper 16 bits of a float32.
type BFloat16 uint16

// Element is what keys, values, queries and outputs are made of.
type Element interface{ float32 | Float16 | BFloat16 }

// DType names an element type; the zero value is F32.
type DType int32

var (
	F16  = DType(raw.KVC_F16)
	F32  = DType(raw.KVC_F32)
	BF16 = DType(raw.KVC_BF16)
)

// DTypeOf names the type of a slice's elements.
func DTypeOf[T Element]() DType {
	var element T
	switch any(element).(type) {
	case Float16:
		return F16
	case BFloat16:
		return BF16
	}
	return F32
}

func bytesOf[T Element](elements []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(elements))), uintptr(len(elements))*unsafe.Sizeof(*new(T)))
}

// Device says where a cache or a buffer lies; the zero value is CPU.
type Device int32

var (
	CPU  = Device(raw.KVC_CPU)
	CUDA = Device(raw.KVC_CUDA)
)

// value is what C calls it, which takes a zero in options alone.
func (d Device) value() int32 {
	if d == 0 {
		return int32(CPU)
	}
	return int32(d)
}

// Part is one of the two things that a layer stores.
type Part int32

var (
	Keys   = Part(raw.KVC_KEYS)
	Values = Part(raw.KVC_VALUES)
)

// RopePairs says which channels turn together; the zero value is RopeHalves.
type RopePairs int32

var (
	RopeHalves      = RopePairs(raw.KVC_ROPE_HALVES)
	RopeInterleaved = RopePairs(raw.KVC_ROPE_INTERLEAVED)
)

// KeyForm says whether keys and queries come turned by RoPE; the zero value is KeysAfterRope.
type KeyForm int32

var (
	KeysAfterRope  = KeyForm(raw.KVC_KEYS_AFTER_ROPE)
	KeysBeforeRope = KeyForm(raw.KVC_KEYS_BEFORE_ROPE)
)

// PositionForm says by which positions keys turn; the zero value is PositionsTrue.
type PositionForm int32

var (
	PositionsTrue    = PositionForm(raw.KVC_POSITIONS_TRUE)
	PositionsInCache = PositionForm(raw.KVC_POSITIONS_IN_CACHE)
)

// Cut says what Truncate and Fork may do below the exact floor; the zero value is CutExact.
type Cut int32

var (
	CutExact   = Cut(raw.KVC_CUT_EXACT)
	CutInexact = Cut(raw.KVC_CUT_INEXACT)
)

// BufferKind says which memory NewBuffer takes.
type BufferKind int32

var (
	BufferDevice = BufferKind(raw.KVC_BUFFER_DEVICE)
	BufferPinned = BufferKind(raw.KVC_BUFFER_PINNED)
)

func flag(set bool) int32 {
	if set {
		return 1
	}
	return 0
}
