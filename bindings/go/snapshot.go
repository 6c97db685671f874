package kvc

import (
	"errors"
	"math"
	"runtime"

	"kvc/raw"
)

// Which sequences: those that are named, or all. An empty list is neither: in C it stands for all, which nobody means who computed one.
type chosen struct {
	sequences []*Sequence
	all       bool
}

// withHandles runs a call over the handles of sequences.
func (c *Cache) withHandles(operation string, which chosen,
	run func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status) error {
	sequences := which.sequences
	if len(sequences) == 0 && !which.all {
		return refuse(operation, "no sequences were named; ExportAll and SaveAll take all of the cache")
	}
	var handles []int64
	for _, s := range sequences {
		if err := c.takes(operation, s); err != nil {
			return err
		}
		_, handle := s.access()
		handles = append(handles, handle)
	}
	err := c.call(operation, func(cache uintptr, x *crossing) raw.Kvc_status { return run(cache, handles, x) })
	runtime.KeepAlive(sequences)
	return err
}

// Export gives the sequences as bytes, in their order; to name none is ErrArgument.
func (c *Cache) Export(sequences ...*Sequence) ([]byte, error) {
	return c.export(chosen{sequences: sequences})
}

// ExportAll gives all sequences of the cache as bytes, in the order in which they were made.
func (c *Cache) ExportAll() ([]byte, error) { return c.export(chosen{all: true}) }

func (c *Cache) export(which chosen) ([]byte, error) {
	return whole(func(out []byte) (int, error) { return c.exportInto(out, which) })
}

// whole asks how many there are and takes them, again and again until they fit: another goroutine's commit can make more of a snapshot in
// between, and another process's save more of a file. A question answers all else that may be wrong with the arguments.
func whole[T any](take func(out []T) (int, error)) ([]T, error) {
	for {
		n, err := take(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		out := make([]T, n)
		if n, err = take(out); err == nil {
			return out[:n], nil
		}
		if !errors.Is(err, ErrArgument) {
			return nil, err
		}
	}
}

// ExportInto writes a snapshot to out and says how long it is; a nil out only asks for that.
func (c *Cache) ExportInto(out []byte, sequences ...*Sequence) (int, error) {
	return c.exportInto(out, chosen{sequences: sequences})
}

// ExportAllInto is ExportInto for all sequences of the cache.
func (c *Cache) ExportAllInto(out []byte) (int, error) { return c.exportInto(out, chosen{all: true}) }

func (c *Cache) exportInto(out []byte, which chosen) (int, error) {
	var written int64
	err := c.withHandles("snapshot_export", which, func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_export(cache, handles, out, &written, x.failure)
	})
	return int(written), err
}

// Import makes the sequences of a snapshot, in the order of its export.
func (c *Cache) Import(data []byte) ([]*Sequence, error) {
	return c.adoptWhole("snapshot_import", func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_import(cache, data, handles, n, x.failure)
	})
}

// ImportInto is Import into a slice that must have room for all; an empty one only checks the bytes and asks how many they are.
func (c *Cache) ImportInto(out []*Sequence, data []byte) (int, error) {
	return c.adoptAll("snapshot_import", out, func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_import(cache, data, handles, n, x.failure)
	})
}

// Save is Export to a file, which is replaced as a whole or stays as it was.
func (c *Cache) Save(path string, sequences ...*Sequence) error {
	return c.save(path, chosen{sequences: sequences})
}

// SaveAll is ExportAll to a file.
func (c *Cache) SaveAll(path string) error { return c.save(path, chosen{all: true}) }

func (c *Cache) save(path string, which chosen) error {
	if err := checkText("snapshot_save", "path", path, math.MaxInt64); err != nil {
		return err
	}
	return c.withHandles("snapshot_save", which, func(cache uintptr, handles []int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_save(cache, handles, path, x.failure)
	})
}

// Load is Import from a file.
func (c *Cache) Load(path string) ([]*Sequence, error) {
	if err := checkText("snapshot_load", "path", path, math.MaxInt64); err != nil {
		return nil, err
	}
	return c.adoptWhole("snapshot_load", func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
		return raw.Kvc_snapshot_load(cache, path, handles, n, x.failure)
	})
}

func (c *Cache) adoptWhole(operation string,
	run func(cache uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status) ([]*Sequence, error) {
	return whole(func(out []*Sequence) (int, error) { return c.adoptAll(operation, out, run) })
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
