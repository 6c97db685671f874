package main

/*
#cgo CFLAGS: -I${SRCDIR}/../model
#cgo LDFLAGS: -L${SRCDIR}/../../../build/servers -lkvc_smollm -Wl,-rpath,${SRCDIR}/../../../build/servers
#include <stdlib.h>
#include "smollm.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// Model is SmolLM2 without its cache: smollm.h tells what each call does.
type Model struct {
	handle                                  *C.smollm
	layers, width, qWidth, kvWidth, context int
	qHeads, kvHeads, headDim                int
	promptBytes                             int // a longer text is longer than the context
	endToken                                int64
	encoding                                sync.RWMutex // read-locked by every Encode under way, locked for ever by Close
}

var errClosed = errors.New("the model is closed")

// OpenModel maps the files in a folder; threads compute, the calling one included.
func OpenModel(folder string, threads int) (*Model, error) {
	path, message := C.CString(folder), (*C.char)(C.calloc(1, 256))
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(message))
	handle := C.smollm_open(path, C.int64_t(threads-1), message, 256)
	if handle == nil {
		return nil, errors.New(C.GoString(message))
	}
	var shape C.smollm_shape
	C.smollm_shape_get(handle, &shape)
	m := &Model{handle: handle, layers: int(shape.layers), width: int(shape.width), context: int(shape.context_tokens),
		qHeads: int(shape.q_heads), kvHeads: int(shape.kv_heads), headDim: int(shape.head_dim), promptBytes: int(shape.prompt_bytes),
		endToken: int64(shape.end_token)}
	m.qWidth, m.kvWidth = m.qHeads*m.headDim, m.kvHeads*m.headDim
	return m, nil
}

// Close ends the model, of which the engine must be done. A text that is still being encoded keeps it: nobody waits for that at the end of
// the program, which frees it.
func (m *Model) Close() {
	if m.encoding.TryLock() {
		C.smollm_close(m.handle)
	}
}

// Encode gives the tokens of a text.
func (m *Model) Encode(text string) ([]int64, error) {
	if !m.encoding.TryRLock() {
		return nil, errClosed
	}
	defer m.encoding.RUnlock()
	tokens := make([]int64, len(text)+1)
	n := C.smollm_encode(m.handle, (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.int64_t(len(text)), numbers(tokens), C.int64_t(len(tokens)))
	if n < 0 {
		return nil, errors.New("encode: out of memory")
	}
	return tokens[:n], nil
}

// Text gives the whole characters that one more token completes; token -1 ends the text.
func (m *Model) Text(token int64, pending *[8]byte) string {
	var text [C.SMOLLM_TEXT_BYTES]byte
	n := C.smollm_text(m.handle, C.int64_t(token), (*C.uint8_t)(&pending[0]), (*C.char)(unsafe.Pointer(&text[0])), C.SMOLLM_TEXT_BYTES)
	return string(text[:max(n, 0)])
}

// Embed begins a pass: x [tokens, width].
func (m *Model) Embed(tokens []int64, x []float32) error {
	return check("embed", C.smollm_embed(m.handle, numbers(tokens), C.int64_t(len(tokens)), floats(x)))
}

// Project makes queries, keys and values of one layer.
func (m *Model) Project(layer int, x []float32, positions []int64, q, k, v []float32) error {
	return check("project", C.smollm_project(m.handle, C.int64_t(layer), floats(x), numbers(positions), C.int64_t(len(positions)),
		floats(q), floats(k), floats(v)))
}

// Mix adds attention and the rest of the layer to x.
func (m *Model) Mix(layer int, x, attended []float32) error {
	return check("mix", C.smollm_mix(m.handle, C.int64_t(layer), floats(x), floats(attended), C.int64_t(len(attended)/m.qWidth)))
}

// Choose gives the most likely token after each of some rows of x.
func (m *Model) Choose(x []float32, rows, out []int64) error {
	return check("choose", C.smollm_choose(m.handle, floats(x), numbers(rows), C.int64_t(len(rows)), numbers(out)))
}

func numbers(slice []int64) *C.int64_t { return (*C.int64_t)(unsafe.SliceData(slice)) }
func floats(slice []float32) *C.float  { return (*C.float)(unsafe.SliceData(slice)) }

func check(call string, status C.int64_t) error {
	if status != 0 {
		return fmt.Errorf("model: %s was refused", call)
	}
	return nil
}
