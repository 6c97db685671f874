using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Threading;

namespace SmolServer {

/// <summary>Takes connections, and has each handled on a thread of its own.</summary>
sealed class Listener {
  const int ConnectionsMost = 1024;   // further ones wait until others have ended
  const int StackBytes = 256 << 10;
  readonly TcpListener listener;
  readonly Action<Connection> handle;
  readonly SemaphoreSlim free = new SemaphoreSlim(ConnectionsMost);
  readonly Thread thread;
  volatile bool stopped;

  // Options of sockets that .NET has no name for, as Linux counts.
  const int ProtocolTcp = 6, TcpUserTimeout = 18;
  [DllImport("libc", SetLastError = true)]
  static extern int setsockopt(int socket, int level, int name, ref int value, int bytes);

  /// <summary>
  /// Listens on a loopback port, 0 = a free one. SocketException if that cannot be had. The system ends connections whose client takes
  /// nothing of what is sent for writeTimeout seconds, so that none can keep its thread.
  /// </summary>
  public Listener(int port, int writeTimeout, Action<Connection> handle) {
    this.handle = handle;
    listener = new TcpListener(IPAddress.Loopback, port);
    int milliseconds = writeTimeout * 1000;
    if (setsockopt((int)listener.Server.Handle, ProtocolTcp, TcpUserTimeout, ref milliseconds, sizeof(int)) != 0) {
      throw new SocketException(Marshal.GetLastWin32Error());
    }
    listener.Start(ConnectionsMost);
    thread = new Thread(Accept) {Name = "listener", IsBackground = true};
  }

  public int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

  public void Start() => thread.Start();

  /// <summary>Takes no more connections, and waits for a while until those that there are have ended.</summary>
  public void Stop(TimeSpan longest) {
    stopped = true;
    listener.Stop();
    for (DateTime end = DateTime.UtcNow + longest; free.CurrentCount < ConnectionsMost && DateTime.UtcNow < end;) Thread.Sleep(10);
  }

  void Accept() {
    for (;;) {
      free.Wait();
      Socket socket;
      try {
        socket = listener.AcceptSocket();
      } catch (Exception e) when (e is SocketException || e is ObjectDisposedException || e is InvalidOperationException) {
        free.Release();
        if (stopped) return;
        Thread.Sleep(10);   // a connection that was reset before it was taken, or no descriptor is left
        continue;
      }
      new Thread(() => Serve(socket), StackBytes) {IsBackground = true}.Start();
    }
  }

  void Serve(Socket socket) {
    try {
      using (var connection = new Connection(socket, () => free.CurrentCount == 0)) {
        do {
          handle(connection);
        } while (connection.Persists && !stopped);
        connection.Finish();
      }
    } catch (Exception e) when (e is IOException || e is SocketException || e is ObjectDisposedException) {
      // The client has gone.
    } catch (Exception e) when (!(e is ThreadAbortException)) {   // which is how mono ends threads with the program
      Console.Error.WriteLine("server: " + e);   // a fault of this program; the other requests go on
    } finally {
      free.Release();
    }
  }
}

}
