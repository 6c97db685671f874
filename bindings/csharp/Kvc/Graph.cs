using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>
/// A step that is captured in a CUDA graph of the caller's and replayed: see Graphs in kvc.h. StepOptions.Graph names it. Its cache lives
/// at least as long, unless Cache.Destroy ends it; and it lives at least as long as the steps that name it.
/// </summary>
public sealed unsafe class Graph : IDisposable {
  internal readonly GraphHandle handle;

  internal Graph(GraphHandle handle) => this.handle = handle;

  internal Graph(Cache cache, ReadOnlySpan<long> counts, long maxTokens, long attends, long slots) {
    handle = new GraphHandle(cache.handle);
    try {
      fixed (long* values = &counts.GetPinnableReference()) {
        handle.Set(kvc.kvc_graph_create(cache.handle, values, counts.Length, maxTokens, attends, slots));
      }
    } catch {
      handle.Forget();
      throw;
    }
  }

  /// <summary>Destroys the graph; reports what Dispose would keep to itself, such as that a step names it.</summary>
  public void Destroy() {
    if (handle.IsClosed) throw new ObjectDisposedException(nameof(Graph));
    kvc.kvc_graph_destroy(handle.DangerousGetHandle());
    handle.Forget();
  }

  /// <summary>Destroys the graph once no step names it; what was launched goes on.</summary>
  public void Dispose() => handle.Dispose();
}

}
