package kvc

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"kvc/raw"
)

// Close does nothing the second time, and every call after it is ErrHandle.
func TestUseAfterClose(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	step := must(sequence.Begin(1, StepOptions{}))
	check(step.Abort())
	check(step.Close())
	wants(t, step.Abort(), ErrHandle, "step_abort", "")
	wants(t, step.Commit(), ErrHandle, "step_commit", "")
	p := newPass[float32](1)
	wants(t, Append(step, 0, p.k, p.v), ErrHandle, "append", "")
	check(sequence.Close())
	check(sequence.Close())
	wants(t, sequence.Destroy(), ErrHandle, "seq_destroy", "")
	_, err := sequence.Length()
	wants(t, err, ErrHandle, "seq_length", "")
	_, err = sequence.Begin(1, StepOptions{})
	wants(t, err, ErrHandle, "step_begin", "")
	check(cache.Close())
	check(cache.Close())
	_, err = cache.NewSequence(SequenceOptions{})
	wants(t, err, ErrHandle, "seq_create", "")
	_, err = cache.Stats()
	wants(t, err, ErrHandle, "stats_get", "")
}

// A nil object is an error as well as a closed one, and a sequence of another cache as well as none.
func TestNilAndForeignObjects(t *testing.T) {
	var cache *Cache
	var sequence *Sequence
	var step *Step
	var buffer *Buffer
	for _, closed := range []error{cache.Close(), sequence.Close(), step.Close(), buffer.Close()} {
		check(closed)
	}
	_, err := cache.Stats()
	wants(t, err, ErrHandle, "stats_get", "")
	_, err = sequence.Fork(0, CutExact)
	wants(t, err, ErrHandle, "seq_fork", "")
	_, err = sequence.Begin(1, StepOptions{})
	wants(t, err, ErrHandle, "step_begin", "")
	wants(t, Append(step, 0, []float32{1}, nil), ErrHandle, "append", "")
	wants(t, Attend(step, 0, []float32{1}, []float32{1}, nil, AttendOptions{}), ErrHandle, "attend", "")
	wants(t, cache.Upload(64, []byte{1}), ErrHandle, "buffer_copy", "")
	wants(t, cache.Download([]byte{1}, 64), ErrHandle, "buffer_copy", "")
	one, other := newCache(t), newCache(t)
	own, foreign := newSequence(one), newSequence(other)
	const words = "a sequence belongs to another cache"
	_, err = one.Begin([]Entry{{own, 1}, {foreign, 1}}, StepOptions{})
	wants(t, err, ErrHandle, "step_begin", words)
	_, err = one.Export(own, foreign)
	wants(t, err, ErrHandle, "snapshot_export", words)
	_, err = one.ExportInto(make([]byte, 1<<16), foreign)
	wants(t, err, ErrHandle, "snapshot_export", words)
	wants(t, one.Save(filepath.Join(t.TempDir(), "a"), foreign), ErrHandle, "snapshot_save", words)
	check(own.Close())
	check(foreign.Close())
	_, err = one.Begin([]Entry{{nil, 1}}, StepOptions{})
	wants(t, err, ErrHandle, "step_begin", "")
}

// permute visits every order of n things.
func permute(n int, visit func(order []int)) {
	order := make([]int, 0, n)
	var extend func()
	extend = func() {
		if len(order) == n {
			visit(order)
		}
		for i := range n {
			used := false
			for _, taken := range order {
				used = used || taken == i
			}
			if !used {
				order = append(order, i)
				extend()
				order = order[:len(order)-1]
			}
		}
	}
	extend()
}

// Cache, sequence, fork and step of each of two caches end in any order: by Close, which refuses only what an open step holds, or
// dropped to the collector.
func TestEveryOrderOfEnding(t *testing.T) {
	permute(4, func(order []int) {
		cache := must(New(options()))
		sequence := newSequence(cache)
		check(run(sequence, 4))
		fork := must(sequence.Fork(4, CutExact))
		step := must(sequence.Begin(1, StepOptions{}))
		ends := []interface{ Close() error }{cache, sequence, fork, step}
		ended := [4]bool{}
		for _, i := range order {
			busy := i == 1 && !ended[0] && !ended[3]
			if err := ends[i].Close(); errors.Is(err, ErrBusy) != busy || (err != nil && !busy) {
				t.Errorf("order %v: closing %d gave %v", order, i, err)
			}
			ended[i] = true
			if !ended[0] {
				must(cache.Stats())
			}
		}
		check(sequence.Close())
		if _, err := cache.Stats(); !errors.Is(err, ErrHandle) {
			t.Errorf("order %v: the cache is still there: %v", order, err)
		}
	})
}

// settle runs the collector until a condition holds.
func settle(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s after 20 seconds of collections", what)
		}
		runtime.GC()
	}
}

// 100,000 objects that nobody closes leave no handle behind: sequences, forks, open steps and what those hold, and caches.
func TestDroppedObjectsLeaveNoHandles(t *testing.T) {
	rounds := 24000 // three sequences and a step each
	if stressed {
		rounds = 50
	}
	cache := newCache(t)
	for i := range rounds {
		sequence := newSequence(cache)
		must(sequence.Fork(0, CutExact))
		must(cache.Begin([]Entry{{sequence, 1}, {newSequence(cache), 0}}, StepOptions{}))
		if i%1000 == 999 { // the arena has no room for all at once
			settle(t, "steps are open", func() bool { return must(cache.Stats()).OpenSteps == 0 })
		}
	}
	settle(t, "sequences are left", func() bool {
		stats := must(cache.Stats())
		return stats.Sequences == 0 && stats.OpenSteps == 0 && stats.ReservedBytes == 0 && stats.RecordBytes == 0
	})
	handles := make([]uintptr, rounds/6)
	tiny := Options{Layers: 1, KVHeads: 1, KDim: 16, ArenaTokens: 64}
	for i := range handles {
		handles[i] = must(New(tiny)).handle
	}
	out := raw.NewKvc_stats()
	defer raw.DeleteKvc_stats(out)
	settle(t, "caches are left", func() bool {
		for _, handle := range handles {
			if raw.Kvc_stats_get(handle, out, nil) != raw.KVC_E_HANDLE {
				return false
			}
		}
		return true
	})
}

// An object that is used for the last time is not collected before that use is over. This test means most with the build tag
// kvc_gc_stress: then the collector runs within every call, right after the handle was read.
func TestTheCollectorWaitsForTheLastCall(t *testing.T) {
	for range 20 {
		if _, err := must(New(options())).Stats(); err != nil {
			t.Error("cache: ", err)
		}
		if _, err := newSequence(must(New(options()))).Length(); err != nil {
			t.Error("sequence: ", err)
		}
		p := newPass[float32](1)
		step := must(newSequence(must(New(options()))).Begin(1, StepOptions{}))
		check(Append(step, 0, p.k, p.v))
		if err := Attend(step, 0, p.q, p.out, p.lse, AttendOptions{}); err != nil {
			t.Error("step: ", err)
		}
		cache := must(New(options()))
		if _, err := cache.Begin([]Entry{{newSequence(cache), 1}, {newSequence(cache), 1}}, StepOptions{}); err != nil {
			t.Error("entries: ", err)
		}
		if _, err := cache.Export(newSequence(cache), newSequence(cache)); err != nil {
			t.Error("sequences of an export: ", err)
		}
	}
}

// A cache that is closed while other goroutines use it answers them until it is gone, and ErrHandle from then on.
func TestCloseWhileInUse(t *testing.T) {
	rounds := 20
	if stressed {
		rounds = 2
	}
	for range rounds {
		cache := must(New(options()))
		var users sync.WaitGroup
		for range 4 {
			sequence := newSequence(cache)
			users.Add(1)
			go func() {
				defer users.Done()
				for range 10000 {
					if err := run(sequence, 1); err != nil {
						if !errors.Is(err, ErrHandle) && !errors.Is(err, ErrNoMemory) {
							t.Error(err)
						}
						if errors.Is(err, ErrHandle) {
							return
						}
						check(sequence.Truncate(0, CutInexact))
					}
				}
			}()
		}
		time.Sleep(2 * time.Millisecond)
		var closers sync.WaitGroup
		for range 2 {
			closers.Add(1)
			go func() {
				defer closers.Done()
				if err := cache.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		closers.Wait()
		users.Wait()
	}
}

// A step that is closed while another goroutine appends to it ends once.
func TestStepClosedWhileInUse(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	p := newPass[float32](1)
	for range 100 {
		step := must(sequence.Begin(1, StepOptions{}))
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := step.Close(); err != nil {
				t.Error(err)
			}
		}()
		for layer := range layers {
			if err := Append(step, layer, p.k, p.v); err != nil && !errors.Is(err, ErrHandle) {
				t.Error(err)
			}
		}
		<-done
	}
	if n := must(sequence.Length()); n != 0 {
		t.Errorf("aborted steps left %d tokens", n)
	}
}

// A machine without a device has no pinned memory: the buffer is made up, over memory of a slice.
func TestSliceOfAClosedBuffer(t *testing.T) {
	memory := make([]byte, 64)
	pin := new(runtime.Pinner)
	pin.Pin(&memory[0])
	defer pin.Unpin()
	made := func(cache *Cache, kind BufferKind) *Buffer {
		return &Buffer{cache: cache, kind: kind, Memory: Memory{Address: uintptr(unsafe.Pointer(&memory[0])), Bytes: 64}}
	}
	done := func() error { return nil }
	cache := must(New(options()))
	buffer, other := made(cache, BufferPinned), made(cache, BufferPinned)
	if slice := buffer.Slice(); len(slice) != 64 || &slice[0] != &memory[0] {
		t.Fatal("an open buffer's slice is not its memory")
	}
	if made(cache, BufferDevice).Slice() != nil {
		t.Error("memory of a device as a slice")
	}
	if err := buffer.life.close(done); err != nil || buffer.Slice() != nil {
		t.Error("a closed buffer has a slice")
	}
	if err := cache.Close(); err != nil || other.Slice() != nil || (*Buffer)(nil).Slice() != nil {
		t.Error("a buffer of a closed cache has a slice")
	}
}
