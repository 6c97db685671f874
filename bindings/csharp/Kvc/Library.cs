using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>The native library: where it is looked for, and where it was found.</summary>
public static class Library {
  /// <summary>
  /// Where libkvc_csharp.so is: the file, or its folder. Set before anything else of kvc is used, it is the only place that is looked
  /// at; null, the default, means runtimes/RID/native beside this assembly, then beside it, then the system loader's path.
  /// </summary>
  public static string Path {
    get => NativeLoader.Path;
    set => NativeLoader.Path = value;
  }

  /// <summary>
  /// Loads the library and compares its ABI with the one that this assembly was built for; all else does so, too, when it is first
  /// used. Throws DllNotFoundException, which says what was tried, or in which struct, field or value the ABI differs.
  /// </summary>
  public static void Load() {
    NativeLoader.Load();
    try {
      GC.KeepAlive(kvc.kvc_abi_version());
    } catch (TypeInitializationException e) when (e.GetBaseException() is DllNotFoundException) {
      throw e.GetBaseException();
    }
  }

  /// <summary>The file that was loaded.</summary>
  public static string LoadedFrom => NativeLoader.LoadedFrom;
}

}
