package kvc

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What Close has ended it does not end again: of a buffer the library knows the address, which may be somebody else's by then.
func TestCloseEndsOnce(t *testing.T) {
	var ends int
	refusals := []error{&Error{Status: ErrCapture}, &Error{Status: ErrBusy}, nil}
	end := func() error { ends++; return refusals[ends-1] }
	var l life
	for i, want := range refusals {
		if err := l.close(end); err != want || ends != i+1 {
			t.Errorf("close %d: %v after %d ends", i, err, ends)
		}
		if open := want != nil; l.closed.Load() == open {
			t.Errorf("after close %d it says that it is closed: %v", i, !open)
		}
	}
	if err := l.close(end); err != nil || ends != 3 {
		t.Errorf("a closed object was ended again: %v, %d ends", err, ends)
	}
	// What has ended otherwise is closed, too.
	var gone life
	ends = 0
	refusals = []error{&Error{Status: ErrHandle}}
	if err := gone.close(end); err != nil || !gone.closed.Load() || gone.close(end) != nil || ends != 1 {
		t.Errorf("%v, closed %v after %d ends", err, gone.closed.Load(), ends)
	}
}

// Of many who close at a time one ends it; all of them do of whom none could, and each is told.
func TestOneCloseAtATime(t *testing.T) {
	for _, refused := range []bool{false, true} {
		var l life
		var inside, ends, told atomic.Int32
		end := func() error {
			if inside.Add(1) != 1 {
				t.Error("two ends at a time")
			}
			defer inside.Add(-1)
			ends.Add(1)
			time.Sleep(time.Millisecond) // the others come meanwhile
			if refused {
				return &Error{Status: ErrBusy}
			}
			return nil
		}
		var all sync.WaitGroup
		const closers = 8
		for range closers {
			all.Add(1)
			go func() {
				defer all.Done()
				if err := l.close(end); errors.Is(err, ErrBusy) {
					told.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			}()
		}
		all.Wait()
		if want := map[bool]int32{false: 1, true: closers}[refused]; ends.Load() != want || (refused && told.Load() != closers) {
			t.Errorf("refused %v: %d ends, %d were told", refused, ends.Load(), told.Load())
		}
	}
}

// A Close that was refused is repeated once nothing is in its way.
func TestARefusedCloseIsRepeated(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	step := must(sequence.Begin(1, StepOptions{}))
	for range 2 {
		wants(t, sequence.Close(), ErrBusy, "seq_destroy", "")
	}
	check(step.Close())
	check(sequence.Close())
	if n := must(cache.Stats()).Sequences; n != 0 {
		t.Errorf("%d sequences are left", n)
	}
}

// Whatever another goroutine commits between the question how long a snapshot is and its writing, it comes out whole.
func TestExportWhileTheSequenceChanges(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	check(run(sequence, 100))
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"a longer sequence", func() { check(run(sequence, 50)) }},
		{"a shorter one", func() { check(sequence.Truncate(0, CutInexact)) }},
		{"the first tokens", func() { check(run(sequence, 70)) }},
	} {
		asked := 0
		got := must(whole(func(out []byte) (int, error) {
			if out == nil {
				asked++
			} else if asked == 1 {
				change.do()
			}
			return cache.ExportInto(out, sequence)
		}))
		if now := must(cache.Export(sequence)); !bytes.Equal(got, now) {
			t.Errorf("with %s meanwhile: %d bytes, where there are %d", change.name, len(got), len(now))
		}
	}
	check(sequence.Close())
	if _, err := cache.Export(sequence); !errors.Is(err, ErrHandle) {
		t.Error(err)
	}
}

// The same of exports that nothing stops, while sequences come and go.
func TestExportBesideOthers(t *testing.T) {
	cache := newCache(t)
	var stop atomic.Bool
	var others sync.WaitGroup
	others.Add(1)
	go func() {
		defer others.Done()
		for !stop.Load() {
			var some []*Sequence
			for range 20 {
				some = append(some, newSequence(cache))
			}
			for _, s := range some {
				check(s.Close())
			}
		}
	}()
	rounds := 5000
	if stressed {
		rounds = 20
	}
	for range rounds {
		if _, err := cache.ExportAll(); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	others.Wait()
}
