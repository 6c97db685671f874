//go:build kvc_gc_stress

package kvc

import (
	"runtime"
	"time"
)

const stressed = true

// collect runs the collector and gives the cleanups that it found the time to run.
func collect() {
	done := make(chan struct{})
	runtime.AddCleanup(new([16]byte), func(done chan struct{}) { close(done) }, done)
	runtime.GC()
	select {
	case <-done:
	case <-time.After(time.Millisecond):
	}
	runtime.Gosched()
}
