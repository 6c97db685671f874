import com.sun.net.httpserver.HttpExchange;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Tells streams when their clients have gone. The JDK's server notices that only when it writes, and for a request that waits or is
 * answered as a whole that is the end: so the sockets themselves are asked, a few times a second. The system ends those whose client takes
 * nothing of what is sent for a while.
 */
final class Clients {
  static {
    System.loadLibrary("kvc_server_java");
  }

  private static final int PERIOD_MILLIS = 100;
  private final Map<Stream, Integer> sockets = new ConcurrentHashMap<>();

  private final int writeTimeoutMillis;

  Clients(int writeTimeout) {
    writeTimeoutMillis = writeTimeout * 1000;
    Thread watcher = new Thread(this::watch, "clients");
    watcher.setDaemon(true);
    watcher.start();
  }

  /** From here to forget the exchange is open, and its socket with it. */
  void remember(Stream stream, HttpExchange exchange) {
    InetSocketAddress client = exchange.getRemoteAddress();
    byte[] address = client.getAddress().getAddress();
    int ipv4 = ByteBuffer.wrap(address).getInt(address.length - Integer.BYTES);
    int socket = find(exchange.getLocalAddress().getPort(), ipv4, client.getPort());
    if (socket < 0 || !limit(socket, writeTimeoutMillis)) stream.leave();
    else sockets.put(stream, socket);
  }

  void forget(Stream stream) { sockets.remove(stream); }

  private void watch() {
    while (true) {
      sockets.forEach((stream, socket) -> {
        if (closed(socket) && sockets.remove(stream) != null) stream.leave();
      });
      try {
        Thread.sleep(PERIOD_MILLIS);
      } catch (InterruptedException e) {
        return;
      }
    }
  }

  private static native int find(int localPort, int address, int port);
  private static native boolean limit(int socket, int writeTimeoutMillis);
  private static native boolean closed(int socket);
}
