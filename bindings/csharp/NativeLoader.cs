using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Kvc.Raw {

/// <summary>What the loaded library says of itself.</summary>
static class NativeOrigin {
  [DllImport("kvc_csharp")]
  static extern IntPtr KvcLoadedFrom();

  // Compiled on its own: mono looks for a library when it compiles a call of it, which must come after NativeLoader.Load.
  [MethodImpl(MethodImplOptions.NoInlining)]
  internal static string File() => Marshal.PtrToStringAnsi(KvcLoadedFrom());
}

/// <summary>
/// Finds libkvc_csharp.so before the run time looks for it: at the path that the program gave and nowhere else, or in
/// runtimes/RID/native beside this assembly, beside it, and where the system's loader looks. libkvc.so.1 is looked for beside it, too.
/// </summary>
static unsafe class NativeLoader {
  const string File = "libkvc_csharp.so";
  const int Now = 2;   // RTLD_NOW: what is missing is found here and not in the middle of a call
  static readonly object gate = new object();
  static string path;
  static IntPtr library;

  [DllImport("libdl.so.2")]
  static extern IntPtr dlopen([MarshalAs(UnmanagedType.LPStr)] string file, int flags);
  [DllImport("libdl.so.2")]
  static extern IntPtr dlerror();
  [DllImport("__Internal")]
  static extern void mono_dllmap_insert(IntPtr assembly, byte[] name, IntPtr function, byte[] target, IntPtr targetFunction);

  /// <summary>A file or a folder; null for the usual places. Only before anything was loaded.</summary>
  internal static string Path {
    get { lock (gate) return path; }
    set {
      lock (gate) {
        if (library != IntPtr.Zero) throw new InvalidOperationException("kvc: the library was loaded already, from " + LoadedFrom);
        path = value;
      }
    }
  }

  internal static string LoadedFrom {
    get {
      Load();
      return NativeOrigin.File();
    }
  }

  /// <summary>Loads the library if it is not there yet; true, so that an initializer can begin with it.</summary>
  internal static bool Load() {
    lock (gate) {
      if (library != IntPtr.Zero) return true;
      var tried = new StringBuilder();
      foreach (string place in Places()) {
        IntPtr opened = dlopen(place, Now);
        if (opened == IntPtr.Zero) {
          tried.Append("\n  ").Append(place).Append(": ").Append(Marshal.PtrToStringAnsi(dlerror()));
          continue;
        }
        TellRunTime(opened, place);
        library = opened;
        return true;
      }
      throw new DllNotFoundException("kvc: " + File + " could not be loaded; tried" + tried);
    }
  }

  internal static IEnumerable<string> Places() {
    if (path != null) {
      yield return Directory.Exists(path) ? System.IO.Path.Combine(path, File) : System.IO.Path.GetFullPath(path);
      yield break;
    }
    string beside = System.IO.Path.GetDirectoryName(typeof(NativeLoader).Assembly.Location);
    if (string.IsNullOrEmpty(beside)) beside = AppDomain.CurrentDomain.BaseDirectory;
    string architecture = RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
    yield return System.IO.Path.Combine(beside, "runtimes", "linux-" + architecture, "native", File);
    yield return System.IO.Path.Combine(beside, File);
    yield return File;
  }

  // CoreCLR asks a resolver, which netstandard2.0 does not know yet; mono has a map of names.
  static void TellRunTime(IntPtr opened, string place) {
    Type native = typeof(Marshal).Assembly.GetType("System.Runtime.InteropServices.NativeLibrary") ??
                  Type.GetType("System.Runtime.InteropServices.NativeLibrary, System.Runtime.InteropServices");
    if (native == null) {
      mono_dllmap_insert(IntPtr.Zero, Encoding.UTF8.GetBytes("kvc_csharp\0"), IntPtr.Zero, Encoding.UTF8.GetBytes(place + "\0"),
                         IntPtr.Zero);
      return;
    }
    MethodInfo set = native.GetMethod("SetDllImportResolver");
    Func<string, Assembly, DllImportSearchPath?, IntPtr> resolve = (name, assembly, search) => name == "kvc_csharp" ? opened : IntPtr.Zero;
    Delegate resolver = Delegate.CreateDelegate(set.GetParameters()[1].ParameterType, resolve.Target, resolve.Method);
    set.Invoke(null, new object[] {typeof(NativeLoader).Assembly, resolver});
  }
}

}
