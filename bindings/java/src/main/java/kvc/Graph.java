package kvc;

import static kvc.raw.kvc.*;

/** A step that is captured in a CUDA graph of the caller's and replayed: see Graphs in kvc.h. StepOptions.graph names it. */
public final class Graph extends Handle {
  private final Cache cache; // not collected before the graph
  final long handle;

  Graph(Cache cache, long handle) {
    super(new State(cache.state, handle));
    this.cache = cache;
    this.handle = handle;
  }

  public Cache cache() { return cache; }

  private static final class State extends Handle.State {
    private final Cache.State cache;
    private final long handle;

    State(Cache.State cache, long handle) {
      this.cache = cache;
      this.handle = handle;
    }

    @Override
    String noun() { return "Graph"; }

    @Override
    void destroy() { kvc_graph_destroy(handle); }

    @Override
    boolean covered() { return !cache.open.get(); }

    @Override
    void busy() { cache.abandoned.add(this); }
  }
}
