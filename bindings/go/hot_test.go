package kvc

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Append and attend touch Go's heap in no way: with options that change from call to call, too, and in every element type.
func TestHotCallsDoNotAllocate(t *testing.T) {
	if sanitized || stressed {
		t.Skip("sanitizers allocate themselves, and a collection within every call empties the pool of crossings")
	}
	t.Run("float32", func(t *testing.T) { hot[float32](t, F32) })
	t.Run("Float16", func(t *testing.T) { hot[Float16](t, F16) })
	t.Run("BFloat16", func(t *testing.T) { hot[BFloat16](t, BF16) })
}

func hot[T Element](t *testing.T, dtype DType) {
	cache := newCache(t)
	// A second append of a layer is an error, which allocates its message: so every append goes to a layer of its own step.
	const rounds = 50
	var steps []*Step
	for range rounds + 1 {
		sequence := newSequence(cache)
		steps = append(steps, must(sequence.Begin(1, StepOptions{KVDType: dtype, QDType: dtype})))
	}
	p := newPass[T](1)
	at := 0
	var failed error
	calls := testing.AllocsPerRun(rounds, func() {
		step := steps[at]
		at++
		for layer := range layers {
			if err := Append(step, layer, p.k, p.v); err != nil {
				failed = err
			}
			options := AttendOptions{Scale: float32(at), SlidingWindow: layer}
			if err := Attend(step, layer, p.q, p.out, p.lse, options); err != nil {
				failed = err
			}
		}
	})
	if failed != nil || calls != 0 {
		t.Errorf("%v allocations, error %v", calls, failed)
	}
	for _, step := range steps {
		check(step.Close())
	}
}

// No buffer is copied on its way: each is said to be a gigabyte long, and only the bytes that the shapes need can be read or written.
// A copy of the slice would end the program.
func TestHotCallsDoNotCopy(t *testing.T) {
	const long = 1 << 30
	reserve := func(needed int) []byte {
		block := must(syscall.Mmap(-1, 0, long, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE))
		t.Cleanup(func() { check(syscall.Munmap(block)) })
		page := syscall.Getpagesize()
		check(syscall.Mprotect(block[:(needed+page-1)/page*page], syscall.PROT_READ|syscall.PROT_WRITE))
		return block
	}
	floats := func(block []byte) []float32 {
		return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(block))), len(block)/4)
	}
	k, v, q := reserve(kvHeads*dim*4), reserve(kvHeads*dim*4), reserve(qHeads*dim*4)
	out := reserve(qHeads * dim * 4)
	values := floats(v)
	for i := range kvHeads * dim {
		values[i] = 1
	}
	step := must(newSequence(newCache(t)).Begin(1, StepOptions{}))
	defer step.Close()
	check(Append(step, 0, floats(k), floats(v)))
	check(Attend(step, 0, floats(q), floats(out), nil, AttendOptions{}))
	if got := floats(out)[0]; got != 1 {
		t.Errorf("attention over values of 1 is %v", got)
	}
}

// Options are set anew in C's memory when they differ from those of the last call, whatever call that was.
func TestOptionsFollowTheCall(t *testing.T) {
	cache := newCache(t)
	step := must(newSequence(cache).Begin(1, StepOptions{}))
	defer step.Close()
	p := newPass[float32](1)
	check(Append(step, 0, p.k, p.v))
	attend := func(options AttendOptions) error { return Attend(step, 0, p.q, p.out, p.lse, options) }
	for range 3 {
		check(attend(AttendOptions{}))
		wants(t, attend(AttendOptions{CausalOffset: 1}), ErrArgument, "attend", "causal_offset")
		check(attend(AttendOptions{SoftCap: 30}))
		wants(t, attend(AttendOptions{SoftCap: -1}), ErrArgument, "attend", "soft_cap")
	}
	_, err := newSequence(cache).Begin(1, StepOptions{Stream: 1})
	wants(t, err, ErrArgument, "step_begin", "stream")
	check(must(newSequence(cache).Begin(1, StepOptions{Strict: true})).Close())
}

// Goroutines that run steps over sequences of one cache at a time get what each would get alone.
func TestGoroutinesShareACache(t *testing.T) {
	cache := newCache(t)
	turns := 30
	if stressed {
		turns = 3
	}
	work := func(number int) []float32 {
		sequence := newSequence(cache)
		defer sequence.Close()
		var outputs []float32
		for turn := range turns {
			p := newPass[float32](1 + turn%3)
			for i := range p.q {
				p.q[i] = float32(number+i%7) / 8
			}
			step := must(sequence.Begin(1+turn%3, StepOptions{}))
			for layer := range layers {
				check(Append(step, layer, p.k, p.v))
				check(Attend(step, layer, p.q, p.out, p.lse, AttendOptions{SlidingWindow: 1 + number}))
				outputs = append(append(outputs, p.out...), p.lse...)
			}
			check(step.Commit())
			must(cache.Stats())
		}
		return outputs
	}
	const goroutines = 4
	var alone, together [goroutines][]float32
	for i := range goroutines {
		alone[i] = work(i)
	}
	var all sync.WaitGroup
	for i := range goroutines {
		all.Add(1)
		go func() {
			defer all.Done()
			together[i] = work(i)
		}()
	}
	all.Wait()
	for i := range goroutines {
		if !slices.Equal(alone[i], together[i]) {
			t.Error(fmt.Sprint("goroutine ", i, " got other numbers than alone"))
		}
	}
}

// A goroutine that attends and attends comes by the scheduler often enough for Go's monitor thread, and not for every call.
func TestATurnIsFourMilliseconds(t *testing.T) {
	x := crossing{turn: time.Second}
	for _, c := range []struct {
		after time.Duration
		over  bool
	}{{time.Millisecond, false}, {3 * time.Millisecond, false}, {4 * time.Millisecond, true}, {5 * time.Millisecond, false}, {9 * time.Millisecond, true}} {
		if over := x.turnIsOver(time.Second + c.after); over != c.over {
			t.Errorf("after %v: %v", c.after, over)
		}
	}
}
