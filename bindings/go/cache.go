package kvc

import (
	"runtime"

	"kvc/raw"
)

// Cache holds sequences over one arena.
type Cache struct {
	life
	handle uintptr
	device Device
}

// New makes a cache. Layers, if there are any, must be as many as options.Layers.
func New(options Options, layers ...Layer) (*Cache, error) {
	var handle uintptr
	err := withShape("create", &options, layers, func(s shape, x *crossing) raw.Kvc_status {
		handle = raw.Kvc_create(s.options, s.layers, s.count, x.failure)
		return x.made(handle != 0)
	})
	if err != nil {
		return nil, err
	}
	c := &Cache{handle: handle, device: options.Device}
	c.cleanup = runtime.AddCleanup(c, func(handle uintptr) { raw.Kvc_destroy(handle, nil) }, handle)
	return c, nil
}

// Close destroys the cache with its sequences and open steps, after calls that still run; further calls of Close do nothing.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	return c.close(func() error {
		return c.call("destroy", func(cache uintptr, x *crossing) raw.Kvc_status { return raw.Kvc_destroy(cache, x.failure) })
	})
}

// SetSinkLogits gives a layer learned sink logits, one per query head; none takes them away.
func (c *Cache) SetSinkLogits(layer int, logits []float32) error {
	return c.call("sink_logits_set", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_sink_logits_set(cache, int64(layer), logits, x.failure)
	})
}

// SetRopeFrequencies gives a layer its own frequencies, before the first sequence.
func (c *Cache) SetRopeFrequencies(layer int, frequencies []float64) error {
	return c.call("rope_frequencies_set", func(cache uintptr, x *crossing) raw.Kvc_status {
		return raw.Kvc_rope_frequencies_set(cache, int64(layer), frequencies, x.failure)
	})
}

// Synchronize waits for all that was launched for the cache; on the host it does nothing.
func (c *Cache) Synchronize() error {
	return c.call("synchronize", func(cache uintptr, x *crossing) raw.Kvc_status { return raw.Kvc_synchronize(cache, x.failure) })
}
