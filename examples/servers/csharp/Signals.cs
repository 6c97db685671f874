using System;
using System.Runtime.InteropServices;

namespace SmolServer {

/// <summary>SIGTERM and SIGINT, and the end (signals.c).</summary>
static class Signals {
  [DllImport("server_signals", SetLastError = true)]
  static extern int signals_catch();
  [DllImport("server_signals")]
  static extern int signals_wait();
  [DllImport("server_signals")]
  static extern void signals_end_process(int status);

  /// <summary>From now on they end nothing by themselves.</summary>
  public static void Catch() {
    if (signals_catch() != 0) throw new InvalidOperationException("signals cannot be caught: errno " + Marshal.GetLastWin32Error());
  }

  /// <summary>Returns at the next one.</summary>
  public static void Wait() => signals_wait();

  /// <summary>Does not return, whatever other threads do.</summary>
  public static void EndProcess(int status) => signals_end_process(status);
}

}
