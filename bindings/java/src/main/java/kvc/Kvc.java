package kvc;

import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.function.LongFunction;
import java.util.function.ToLongFunction;
import java.util.stream.LongStream;
import kvc.raw.kvc_layer;
import kvc.raw.kvc_plan;

/** What the library is and can do, before there is a cache. */
public final class Kvc {
  private Kvc() {}

  public static String version() { return kvc_version(); }

  public static long abiVersion() { return kvc_abi_version(); }

  public static String buildInfo() { return kvc_build_info(); }

  /** Every public struct and enum of the library, a line each. */
  public static String abiDescription() { return text(kvc.raw.kvc::kvc_abi_describe); }

  /** "ffm" or "jni": how append, attend and commit reach the library in this process. */
  public static String calls() { return AddressCalls.CALLS.name(); }

  // ---- Discovery ----

  public static List<String> presets() { return names(kvc_preset_count(), kvc.raw.kvc::kvc_preset_name); }

  public static List<String> policies() { return names(kvc_policy_count(), kvc.raw.kvc::kvc_policy_name); }

  /** Kernel targets that this machine can run, best first. */
  public static List<String> targets() { return names(kvc_target_count(), kvc.raw.kvc::kvc_target_name); }

  /** The canonical string of a codec. */
  public static String formatCodec(String codec) { return text(out -> kvc_codec_format(codec, out)); }

  /** The canonical string of a policy. */
  public static String formatPolicy(String policy) { return text(out -> kvc_policy_format(policy, out)); }

  /** Devices of a kind; throws, and says why, if there are none. */
  public static long deviceCount(Device device) { return kvc_device_count(device.raw.swigValue()); }

  public static String deviceName(Device device, long ordinal) {
    return text(out -> kvc_device_describe(device.raw.swigValue(), ordinal, out));
  }

  // ---- Planning ----

  /** Returns if a cache could be made of these options, throws what its creation would throw. layers: one per layer, or none. */
  public static void requireSupported(CacheOptions options, LayerOptions... layers) {
    withLayers(layers, rows -> {
      kvc_supports(options.raw, rows, layers.length);
      return null;
    });
  }

  /** What a cache takes that is run as requested. */
  public static Plan plan(CacheOptions options, PlanRequest request, LayerOptions... layers) {
    return withLayers(layers, rows -> {
      kvc_plan out = new kvc_plan();
      kvc_plan_compute(options.raw, rows, layers.length, request.raw, out);
      return new Plan(out);
    });
  }

  interface LayersCall<T> {
    T with(kvc_layer rows);
  }

  /** C takes the layers in a row. */
  static <T> T withLayers(LayerOptions[] layers, LayersCall<T> call) {
    if (layers.length == 0) return call.with(null);
    kvc_layer rows = kvc_layers_new(layers.length);
    if (rows == null) throw new OutOfMemoryError("kvc: no host memory for " + layers.length + " layers");
    try {
      for (int i = 0; i < layers.length; i++) kvc_layers_set(rows, i, layers[i].raw);
      return call.with(rows);
    } finally {
      kvc_layers_delete(rows);
    }
  }

  private static List<String> names(long count, LongFunction<String> name) { return LongStream.range(0, count).mapToObj(name).toList(); }

  /** A text that C writes with a final NUL, after it was asked for its size. */
  private static String text(ToLongFunction<ByteBuffer> write) {
    ByteBuffer out = Direct.bytes(write.applyAsLong(null));
    write.applyAsLong(out);
    byte[] bytes = new byte[out.capacity() - 1];
    out.get(bytes);
    return new String(bytes, StandardCharsets.UTF_8);
  }
}
