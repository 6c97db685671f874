package kvc

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"kvc/raw"
)

// A crossing is what a call of the library needs in C's memory: the error that it may fill, and the options of the calls that must
// not allocate. Crossings are used again and again, so that append and attend touch the heap of neither language.
type crossing struct {
	failure     raw.Kvc_error
	step        raw.Kvc_step_options
	attend      raw.Kvc_attend_options
	stepHolds   StepOptions   // what step was last set to
	attendHolds AttendOptions // what attend was last set to

	sequences, counts []int64
	turn              time.Duration // since started: when a turn was last given away
}

var crossings = sync.Pool{New: func() any {
	x := &crossing{failure: raw.NewKvc_error(), step: raw.NewKvc_step_options(), attend: raw.NewKvc_attend_options()}
	runtime.AddCleanup(x, func(was crossing) {
		raw.DeleteKvc_error(was.failure)
		raw.DeleteKvc_step_options(was.step)
		raw.DeleteKvc_attend_options(was.attend)
	}, *x)
	return x
}}

// cross runs one function of the raw layer and makes an error of its status.
func cross(operation string, run func(x *crossing) raw.Kvc_status) error {
	x := crossings.Get().(*crossing)
	return x.end(operation, run(x))
}

func (x *crossing) end(operation string, status raw.Kvc_status) (err error) {
	if status != raw.KVC_OK {
		err = &Error{Status(status), operation, x.failure.GetMessage()}
	}
	runtime.KeepAlive(x)
	crossings.Put(x)
	return err
}

// made is the status of a function that returns what it made, or nothing and a filled error.
func (x *crossing) made(something bool) raw.Kvc_status {
	if something {
		return raw.KVC_OK
	}
	return raw.Kvc_status(x.failure.GetStatus())
}

// call runs a function over the cache. The handle is no pointer: only KeepAlive keeps the collector from destroying the cache while
// the library uses it. A nil cache has the handle 0, which the library refuses.
func (c *Cache) call(operation string, run func(cache uintptr, x *crossing) raw.Kvc_status) error {
	x := crossings.Get().(*crossing)
	status := run(c.access(), x)
	runtime.KeepAlive(c)
	return x.end(operation, status)
}

func (s *Sequence) call(operation string, run func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status) error {
	x := crossings.Get().(*crossing)
	cache, sequence := s.access()
	status := run(cache, sequence, x)
	runtime.KeepAlive(s) // and with it its cache
	return x.end(operation, status)
}

func (s *Step) call(operation string, run func(step uintptr, x *crossing) raw.Kvc_status) error {
	x := crossings.Get().(*crossing)
	status := run(s.access(), x)
	runtime.KeepAlive(s) // and with it its cache
	due := x.turnIsOver(time.Since(started))
	err := x.end(operation, status)
	if due {
		runtime.Gosched()
	}
	return err
}

var started = time.Now()

// turnIsOver says whether a goroutine that computes step by step should give its turn away. One that does not come by the scheduler for
// 10 ms, as it is in C all the time, has Go's monitor thread take its processor away and look every 20 us, for milliseconds,
// whether to do so again: 2 % to 8 % of a decode step. To give it away sooner costs a microsecond and lets the monitor sleep.
// Crossings are kept for each processor, as are the monitor's clocks.
func (x *crossing) turnIsOver(now time.Duration) bool {
	if now-x.turn < 4*time.Millisecond {
		return false
	}
	x.turn = now
	return true
}

// given is a list that a caller has given, as C takes it: one that came out empty, which is nil where nothing was appended to it, is no
// list left out.
func given[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// number runs a function that gives one number.
func (s *Sequence) number(operation string, run func(cache uintptr, sequence int64, out *int64, x *crossing) raw.Kvc_status) (int, error) {
	var out int64
	err := s.call(operation, func(cache uintptr, sequence int64, x *crossing) raw.Kvc_status {
		return run(cache, sequence, &out, x)
	})
	return int(out), err
}

// The accessors are the only readers of handles. With the build tag kvc_gc_stress each runs the collector after it has read one, so
// that a missing KeepAlive shows.

func (c *Cache) access() uintptr {
	if c == nil {
		return 0
	}
	handle := c.handle
	collect()
	return handle
}

func (s *Sequence) access() (cache uintptr, sequence int64) {
	if s == nil || s.cache == nil {
		return 0, 0
	}
	cache, sequence = s.cache.handle, s.handle
	collect()
	return cache, sequence
}

func (s *Step) access() uintptr {
	if s == nil {
		return 0
	}
	handle := s.handle
	collect()
	return handle
}

// A life ends by Close, or by the collector when nothing refers to the object any more. The library knows which handles are live: to
// end one from two sides or after its cache is ErrHandle there and nothing to Close. Of a buffer it knows the address alone, which may be
// another buffer's a moment later: so what Close has ended it never ends again. One Close at a time, so that the next one knows whether
// this one was refused, and then tries itself.
type life struct {
	cleanup runtime.Cleanup
	ending  sync.Mutex
	closed  atomic.Bool
}

func (l *life) close(destroy func() error) error {
	l.ending.Lock()
	defer l.ending.Unlock()
	if l.closed.Load() {
		return nil
	}
	l.closed.Store(true)
	if err := destroy(); err != nil && err.(*Error).Status != ErrHandle {
		l.closed.Store(false)
		return err
	}
	l.cleanup.Stop()
	return nil
}
