using System;
using System.Collections.Generic;
using Kvc.Raw;

namespace Kvc {

/// <summary>What the library is, and what it can do on this machine.</summary>
public static unsafe class Discovery {
  // mono looks for a library when it compiles a call of it; this runs before it compiles the methods that are called here.
  static Discovery() { NativeLoader.Load(); }

  /// <summary>Version of kvc, as "1.2.3".</summary>
  public static string Version => kvc.kvc_version();

  /// <summary>The ABI of the library that was loaded.</summary>
  public static long AbiVersion => kvc.kvc_abi_version();

  /// <summary>Compiler, options and kernel targets of the build.</summary>
  public static string BuildInfo => kvc.kvc_build_info();

  /// <summary>Every public struct and enum of the library, one line each: kvc_abi_describe.</summary>
  public static string AbiDescription => NativeText.Read(kvc.kvc_abi_describe);

  /// <summary>Names of the codec presets.</summary>
  public static IReadOnlyList<string> Presets => List(kvc.kvc_preset_count(), kvc.kvc_preset_name);

  /// <summary>Names of the eviction policies.</summary>
  public static IReadOnlyList<string> Policies => List(kvc.kvc_policy_count(), kvc.kvc_policy_name);

  /// <summary>Kernel targets that this machine can run, best first.</summary>
  public static IReadOnlyList<string> Targets => List(kvc.kvc_target_count(), kvc.kvc_target_name);

  /// <summary>"KVC_E_HANDLE" for Status.Handle; "unknown" for a number that is none.</summary>
  public static string StatusName(Status status) => kvc.kvc_status_name((int)status);

  /// <summary>A codec's canonical string.</summary>
  public static string FormatCodec(string codec) => NativeText.Read((to, bytes) => kvc.kvc_codec_format(codec, to, bytes));

  /// <summary>A policy's canonical string, with all defaults.</summary>
  public static string FormatPolicy(string policy) => NativeText.Read((to, bytes) => kvc.kvc_policy_format(policy, to, bytes));

  /// <summary>Devices of a kind. KvcUnsupportedException if there are none, which says why.</summary>
  public static long DeviceCount(Device device) => kvc.kvc_device_count((int)device);

  /// <summary>The name of one of them.</summary>
  public static string DescribeDevice(Device device, long ordinal) =>
      NativeText.Read((to, bytes) => kvc.kvc_device_describe((int)device, ordinal, to, bytes));

  /// <summary>Throws what the constructor of Cache would throw for these options; takes no arena.</summary>
  public static void CheckSupport(CacheOptions options, params LayerOptions[] layers) {
    using (var row = new LayerRow(layers)) kvc.kvc_supports(LayerRow.Given(options), row.First, row.Count);
  }

  /// <summary>The memory that a cache takes which is run as requested, to the byte.</summary>
  public static Plan Plan(CacheOptions options, PlanRequest request, params LayerOptions[] layers) {
    if (request == null) throw new ArgumentNullException(nameof(request));
    var plan = new Plan();
    using (var row = new LayerRow(layers)) kvc.kvc_plan_compute(LayerRow.Given(options), row.First, row.Count, request.raw, plan.raw);
    return plan;
  }

  static string[] List(long n, Func<long, string> name) {
    var names = new string[n];
    for (long i = 0; i < n; i++) names[i] = name(i);
    return names;
  }
}

}
