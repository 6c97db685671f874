package kvc

import (
	"runtime"
	"unsafe"

	"kvc/raw"
)

// Memory is a stretch of memory that is not Go's, by its address: a device's, or C's.
type Memory struct {
	Address uintptr
	Bytes   int
}

// AppendMemory is Append for a step whose buffers lie on the device.
func (s *Step) AppendMemory(layer int, k, v Memory) error {
	return s.call("append", func(step uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_status(raw.Kvc_append_at(step, int64(layer), k.Address, int64(k.Bytes), v.Address, int64(v.Bytes), x.failure))
	})
}

// AttendMemory is Attend for a step whose buffers lie on the device; the zero lse asks for none.
func (s *Step) AttendMemory(layer int, q, out, lse Memory, options AttendOptions) error {
	return s.call("attend", func(step uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_status(raw.Kvc_attend_at(step, int64(layer), q.Address, int64(q.Bytes), out.Address, int64(out.Bytes),
			lse.Address, int64(lse.Bytes), x.attendOptions(options), x.failure))
	})
}

// Buffer is memory of the cache's device, or memory of the host that the device reaches. It must be closed before its cache. Its Address does
// not hold it: what was given the address must have ended before Close, and runtime.KeepAlive(buffer) after it keeps the collector off.
type Buffer struct {
	life
	Memory
	cache *Cache
	kind  BufferKind
}

// A dropped buffer holds its cache until the collector has freed it.
type dropped struct {
	cache  *Cache
	kind   BufferKind
	buffer uintptr
}

// NewBuffer takes memory for a cache on a device; a cache on the host has none to give (ErrUnsupported).
func (c *Cache) NewBuffer(kind BufferKind, bytes int) (*Buffer, error) {
	b := &Buffer{cache: c, kind: kind, Memory: Memory{Bytes: bytes}}
	err := c.call("buffer_create", func(cache uintptr, x *crossing) raw.Kvc_status {
		b.Address = raw.Kvc_buffer_create(cache, int32(kind), int64(bytes), x.failure)
		return x.made(b.Address != 0)
	})
	if err != nil {
		return nil, err
	}
	b.cleanup = runtime.AddCleanup(b, func(d dropped) {
		raw.Kvc_buffer_destroy(d.cache.handle, int32(d.kind), d.buffer, nil)
		runtime.KeepAlive(d.cache)
	}, dropped{c, kind, b.Address})
	return b, nil
}

// Close frees the buffer after what still uses it; further calls of Close do nothing.
func (b *Buffer) Close() error {
	if b == nil {
		return nil
	}
	return b.close(func() error {
		return b.cache.call("buffer_destroy", func(cache uintptr, x *crossing) raw.Kvc_status {
			return raw.Kvc_buffer_destroy(cache, int32(b.kind), b.Address, x.failure)
		})
	})
}

// Slice is the memory of a pinned buffer; nil for a buffer that lies on the device, or once the buffer or its cache is closed. The slice
// does not hold the buffer: it must not be used after Close, nor when nothing else refers to the buffer any more, which
// runtime.KeepAlive(buffer) after the slice's last use makes sure of.
func (b *Buffer) Slice() []byte {
	if b == nil || b.kind != BufferPinned || b.closed.Load() || b.cache.closed.Load() {
		return nil
	}
	// The address comes from C, so that the collector does not move what lies there.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&b.Address)), b.Bytes)
}

// Copy copies between any two of device memory and host memory that is not Go's.
func (c *Cache) Copy(to uintptr, toDevice Device, from uintptr, fromDevice Device, bytes int) error {
	return c.call("buffer_copy", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_buffer_copy(cache, to, toDevice.value(), from, fromDevice.value(), int64(bytes), x.failure)
	})
}

// Upload copies a slice to the cache's device.
func (c *Cache) Upload(to uintptr, from []byte) error {
	address, unpin := pinned(from)
	defer unpin()
	return c.Copy(to, c.where(), address, CPU, len(from))
}

// Download copies from the cache's device and waits for it.
func (c *Cache) Download(to []byte, from uintptr) error {
	address, unpin := pinned(to)
	defer unpin()
	return c.Copy(address, CPU, from, c.where(), len(to))
}

func (c *Cache) where() Device {
	if c == nil {
		return CPU
	}
	return c.device
}

// pinned gives the address of a slice that stays where it is until unpin.
func pinned(slice []byte) (address uintptr, unpin func()) {
	pointer := unsafe.SliceData(slice)
	if pointer == nil {
		return 0, func() {}
	}
	pinner := new(runtime.Pinner)
	pinner.Pin(pointer)
	return uintptr(unsafe.Pointer(pointer)), pinner.Unpin
}
