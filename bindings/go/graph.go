package kvc

import (
	"runtime"

	"kvc/raw"
)

// Graph is a step that is captured in a CUDA graph of the caller's and replayed: see Graphs in kvc.h. Name it in StepOptions. It must
// be closed before its cache, and not while a step names it (ErrBusy).
type Graph struct {
	life
	cache  *Cache
	handle uintptr
}

// GraphOptions says for what a graph has room; a zero field means its default.
type GraphOptions struct {
	Counts    []int64 // tokens that a step adds to each of its sequences
	MaxTokens int     // of a sequence, once a step is committed
	Attends   int     // in a step; 0 = one for each layer
	Slots     int     // steps whose tables may be on their way at a time; 0 = 4
}

// A dropped graph holds its cache until the collector has destroyed it.
type droppedGraph struct {
	cache *Cache
	graph uintptr
}

// NewGraph makes room for the launches of a step; a cache on the host has none (ErrUnsupported).
func (c *Cache) NewGraph(options GraphOptions) (*Graph, error) {
	g := &Graph{cache: c}
	err := c.call("graph_create", func(cache uintptr, x *crossing) raw.Kvc_status {
		g.handle = raw.Kvc_graph_create(cache, options.Counts, int64(options.MaxTokens), int64(options.Attends), int64(options.Slots),
			x.failure)
		return x.made(g.handle != 0)
	})
	if err != nil {
		return nil, err
	}
	g.cleanup = runtime.AddCleanup(g, func(d droppedGraph) {
		raw.Kvc_graph_destroy(d.graph, nil)
		runtime.KeepAlive(d.cache)
	}, droppedGraph{c, g.handle})
	return g, nil
}

// Close destroys the graph; what was launched goes on. Further calls of Close do nothing.
func (g *Graph) Close() error {
	if g == nil {
		return nil
	}
	return g.close(func() error {
		return g.cache.call("graph_destroy", func(_ uintptr, x *crossing) raw.Kvc_status {
			return raw.Kvc_graph_destroy(g.access(), x.failure)
		})
	})
}

func (g *Graph) access() uintptr {
	if g == nil {
		return 0
	}
	handle := g.handle
	collect()
	return handle
}
