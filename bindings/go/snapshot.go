package kvc

import (
	"math"
	"runtime"

	"kvc/raw"
)

// withHandles runs a call over the handles of sequences; none mean all of the cache.
func (c *Cache) withHandles(operation string, sequences []*Sequence,
	run func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status) error {
	var handles []int64
	for _, s := range sequences {
		_, handle := s.access()
		handles = append(handles, handle)
	}
	err := c.call(operation, func(cache uintptr, x *crossing) raw.Kvc_status { return run(cache, handles, x) })
	runtime.KeepAlive(sequences)
	return err
}

// Export gives the sequences as bytes, in their order; without any it means all of the cache.
func (c *Cache) Export(sequences ...*Sequence) ([]byte, error) {
	bytes, err := c.ExportInto(nil, sequences...)
	if err != nil {
		return nil, err
	}
	out := make([]byte, bytes)
	bytes, err = c.ExportInto(out, sequences...)
	if err != nil {
		return nil, err
	}
	return out[:bytes], nil
}

// ExportInto writes a snapshot to out and says how long it is; a nil out only asks for that.
func (c *Cache) ExportInto(out []byte, sequences ...*Sequence) (int, error) {
	var written int64
	err := c.withHandles("snapshot_export", sequences, func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_export(cache, handles, out, &written, x.failure)
	})
	return int(written), err
}

// Import makes the sequences of a snapshot, in the order of its export.
func (c *Cache) Import(data []byte) ([]*Sequence, error) {
	n, err := c.ImportInto(nil, data)
	if err != nil {
		return nil, err
	}
	out := make([]*Sequence, n)
	_, err = c.ImportInto(out, data)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ImportInto is Import into a slice that must have room for all; an empty one only checks the bytes and asks how many they are.
func (c *Cache) ImportInto(out []*Sequence, data []byte) (int, error) {
	return c.adoptAll("snapshot_import", out, func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_import(cache, data, handles, n, x.failure)
	})
}

// Save is Export to a file, which is replaced as a whole or stays as it was.
func (c *Cache) Save(path string, sequences ...*Sequence) error {
	if err := checkText("snapshot_save", "path", path, math.MaxInt64); err != nil {
		return err
	}
	return c.withHandles("snapshot_save", sequences, func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_save(cache, handles, path, x.failure)
	})
}

// Load is Import from a file.
func (c *Cache) Load(path string) ([]*Sequence, error) {
	if err := checkText("snapshot_load", "path", path, math.MaxInt64); err != nil {
		return nil, err
	}
	load := func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_load(cache, path, handles, n, x.failure)
	}
	n, err := c.adoptAll("snapshot_load", nil, load)
	if err != nil {
		return nil, err
	}
	out := make([]*Sequence, n)
	_, err = c.adoptAll("snapshot_load", out, load)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Cache) adoptAll(operation string, out []*Sequence,
	run func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status) (int, error) {
	var handles []int64 // nil, which only asks, for an empty out
	var n int64
	if len(out) > 0 {
		handles = make([]int64, len(out))
	}
	err := c.call(operation, func(cache uintptr, x *crossing) raw.Kvc_status { return run(cache, handles, &n, x) })
	if err != nil {
		return int(n), err
	}
	for i, handle := range handles {
		if handle != 0 {
			out[i] = c.adopt(handle)
		}
	}
	return int(n), nil
}
