using System;

namespace Kvc.Raw {

/// <summary>Layers as C takes them, in a row; none stand for "all as in the options".</summary>
sealed class LayerRow : IDisposable {
  internal readonly kvc_layer First;
  internal readonly long Count;

  internal LayerRow(LayerOptions[] layers) {
    if (layers == null || layers.Length == 0) return;
    if (Array.IndexOf(layers, null) >= 0) throw new ArgumentNullException(nameof(layers), "one of the layers is null");
    First = kvc.kvc_layers_new(layers.Length) ?? throw new OutOfMemoryException();
    Count = layers.Length;
    for (long i = 0; i < Count; i++) kvc.kvc_layers_set(First, i, layers[i].raw);
  }

  internal static kvc_options Given(CacheOptions options) =>
      options == null ? throw new ArgumentNullException(nameof(options)) : options.raw;

  public void Dispose() {
    if (First != null) kvc.kvc_layers_delete(First);
  }
}

}
