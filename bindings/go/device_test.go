package kvc

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// On a device; go/check runs these on the emulated one.

func newDeviceCache(t *testing.T) *Cache {
	if _, err := DeviceCount(CUDA); err != nil {
		if os.Getenv("KVC_TEST_DEVICE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	o := options()
	o.Device = CUDA
	cache := must(New(o))
	t.Cleanup(func() { check(cache.Close()) })
	return cache
}

// A buffer that is closed again, from several goroutines, leaves the one alone that has its address by then.
func TestDeviceBufferIsFreedOnce(t *testing.T) {
	cache := newDeviceCache(t)
	for _, kind := range []BufferKind{BufferDevice, BufferPinned} {
		closed := must(cache.NewBuffer(kind, 4096))
		var all sync.WaitGroup
		for range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				if err := closed.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		all.Wait()
		next := must(cache.NewBuffer(kind, 4096))
		closed.Address = next.Address // which the driver may give again, or not
		check(closed.Close())
		if err := next.Close(); err != nil {
			t.Errorf("the next buffer has ended with the one before: %v", err)
		}
	}
}

// A buffer whose cache has ended is closed, as its memory is.
func TestDeviceBufferAfterItsCache(t *testing.T) {
	cache := newDeviceCache(t)
	buffer := must(cache.NewBuffer(BufferPinned, 64))
	if len(buffer.Slice()) != 64 {
		t.Errorf("%d bytes of pinned memory", len(buffer.Slice()))
	}
	check(cache.Close())
	check(buffer.Close())
	check(buffer.Close())
}

// Copies go from the one to the other, and to the host.
func TestDeviceCopies(t *testing.T) {
	cache := newDeviceCache(t)
	const n = 512
	a, b := must(cache.NewBuffer(BufferDevice, n)), must(cache.NewBuffer(BufferDevice, n))
	pinned := must(cache.NewBuffer(BufferPinned, n))
	defer a.Close()
	defer b.Close()
	defer pinned.Close()
	first, second := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{2}, n)
	holds := func(what string, buffer *Buffer, want []byte) {
		t.Helper()
		got := make([]byte, n)
		check(cache.Download(got, buffer.Address))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the buffer begins with %v, not %v", what, got[:4], want[:4])
		}
	}
	check(cache.Upload(a.Address, first))
	check(cache.Upload(b.Address, second))
	holds("after its upload", a, first)
	holds("after its upload", b, second)
	check(cache.Copy(b.Address, CUDA, a.Address, CUDA, n/2))
	holds("copied from", a, first)
	holds("copied half to", b, append(bytes.Repeat([]byte{1}, n/2), second[n/2:]...))
	check(cache.Copy(pinned.Address, CPU, a.Address, CUDA, n))
	if !bytes.Equal(pinned.Slice(), first) {
		t.Errorf("pinned memory begins with %v", pinned.Slice()[:4])
	}
	copy(pinned.Slice(), second)
	check(cache.Copy(a.Address, CUDA, pinned.Address, CPU, n))
	holds("copied from pinned memory", a, second)
	wants(t, cache.Copy(a.Address, CUDA, b.Address, CUDA, n+1), ErrArgument, "buffer_copy", "")
	wants(t, cache.Copy(a.Address, CPU, b.Address, CUDA, n), ErrArgument, "buffer_copy", "to")
	wants(t, cache.Copy(a.Address, CUDA, b.Address, CPU, n), ErrArgument, "buffer_copy", "from")
}

// A number that no graph can have is told by its name, and what is one's limit is not the other's.
func TestDeviceGraphOptions(t *testing.T) {
	cache := newDeviceCache(t)
	whole := GraphOptions{Counts: []int64{1, 2}, MaxTokens: 256, Attends: 100, Slots: 1}
	graph := must(cache.NewGraph(whole))
	check(graph.Close())
	check(graph.Close())
	for words, change := range map[string]func(o *GraphOptions){
		"token count -7": func(o *GraphOptions) { o.Counts = []int64{1, -7} },
		"n 0":            func(o *GraphOptions) { o.Counts = nil },
		"max_tokens -3":  func(o *GraphOptions) { o.MaxTokens = -3 },
		"attends -4":     func(o *GraphOptions) { o.Attends = -4 },
		"slots 65":       func(o *GraphOptions) { o.Slots = 65 },
	} {
		o := whole
		change(&o)
		_, err := cache.NewGraph(o)
		wants(t, err, ErrArgument, "graph_create", words)
	}
}

// Devices are told apart by their number.
func TestDeviceNames(t *testing.T) {
	newDeviceCache(t)
	count := must(DeviceCount(CUDA))
	for ordinal := range count {
		if name := must(DescribeDevice(CUDA, ordinal)); name == "" || strings.Contains(name, "\x00") {
			t.Errorf("device %d is called %q", ordinal, name)
		}
	}
	_, err := DescribeDevice(CUDA, count)
	wants(t, err, ErrArgument, "device_describe", fmt.Sprintf("device %d", count))
}
