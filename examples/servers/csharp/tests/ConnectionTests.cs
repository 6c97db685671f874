using System;
using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace SmolServer {

/// <summary>The HTTP layer over real sockets, with a handler of the test's own.</summary>
static class ConnectionTests {
  const string Chunked = "Transfer-Encoding: chunked\r\n\r\n";

  // Sends a request in pieces and returns everything that comes back.
  static string Exchange(Action<Connection> handle, params string[] pieces) {
    var listener = new Listener(0, 30, connection => {
      try {
        connection.ReadHead();
        handle(connection);
      } catch (RequestException e) {
        connection.Answer(e.Status, "text/plain", e.Message);
      }
    });
    listener.Start();
    using (var client = new TcpClient()) {
      client.Connect(IPAddress.Loopback, listener.Port);
      client.ReceiveTimeout = 10000;
      foreach (string piece in pieces) {
        client.Client.Send(Encoding.ASCII.GetBytes(piece));
        Thread.Sleep(5);   // so that they arrive one by one
      }
      client.Client.Shutdown(SocketShutdown.Send);
      using (var reader = new StreamReader(client.GetStream())) {
        string answer = reader.ReadToEnd();
        client.Close();
        listener.Stop(TimeSpan.FromSeconds(5));
        return answer;
      }
    }
  }

  static void Echo(Connection connection) =>
      connection.Answer(200, "text/plain", "[" + Encoding.ASCII.GetString(connection.ReadBody(20)) + "]");

  public static void BodiesArriveInEveryForm() {
    var requests = new[] {
      new[] {"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
      new[] {"POST /a HT", "TP/1.1\r\ncontent-length:5\r", "\n\r\nhe", "ll", "o"},
      new[] {"POST /a HTTP/1.0\nContent-Length: 5\n\nhello"},
      new[] {"POST /a HTTP/1.1\r\n" + Chunked + "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: a\r\n\r\n"},
      new[] {"POST /a HTTP/1.1\r\n" + Chunked + "00", "5\r\nhel", "lo\r", "\n0\r\n\r\n"},
      new[] {"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "hello"},
    };
    foreach (string[] request in requests) {
      string answer = Exchange(Echo, request);
      string head = (request[0].Contains("Expect") ? "HTTP/1.1 100 Continue\r\n\r\n" : "") + "HTTP/1.1 200 OK\r\n";
      Tests.That(answer.StartsWith(head, StringComparison.Ordinal) && answer.EndsWith("\r\n\r\n[hello]", StringComparison.Ordinal), answer);
    }
    Tests.That(Exchange(Echo, "HEAD / HTTP/1.1\r\n\r\n").EndsWith("GMT\r\n\r\n", StringComparison.Ordinal), "an answer to HEAD has no body");
  }

  // Four requests at once: the third one's body is not read, and what follows it is no request.
  public static void RequestsFollowEachOther() {
    const string Body = "HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
    string answer = Exchange(connection => {
      if (connection.Path == "/unread") throw new RequestException(404, "there is none");
      Echo(connection);
    }, "POST / " + Body + "helloPOST / " + Body + "again\r\nPOST /unread " + Body + "never", "POST / " + Body + "never");
    string[] parts = answer.Split(new[] {"HTTP/1.1 "}, StringSplitOptions.None);
    Tests.Equal("|200|200|404", string.Join("|", parts.Select(part => part.Split(' ')[0])), "answers");
    Tests.That(parts[1].EndsWith("[hello]", StringComparison.Ordinal) && parts[2].EndsWith("[again]", StringComparison.Ordinal), answer);
    Tests.Equal("False False True", string.Join(" ", parts.Skip(1).Select(part => part.Contains("Connection: close"))), "the last one");
    answer = Exchange(Echo, "GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    Tests.Equal(2, answer.Split(new[] {"HTTP/1.1 "}, StringSplitOptions.None).Length, "answers to a client that wants one");
  }

  public static void MalformedRequestsAreRefused() {
    var requests = new (int Status, string Request)[] {
      (400, "nonsense\r\n\r\n"), (400, "POST /\r\n\r\n"), (400, "POST / FTP/1.1\r\n\r\n"), (505, "POST / HTTP/2.0\r\n\r\n"),
      (400, "POST / HTTP/1.1\r\nno colon\r\n\r\n"), (400, "POST / HTTP/1.1\r\na b: c\r\n\r\n"),
      (400, "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), (400, "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
      (400, "POST / HTTP/1.1\r\nContent-Length: 1\r\n" + Chunked + "0\r\n\r\n"),
      (413, "POST / HTTP/1.1\r\nContent-Length: 21\r\n\r\n" + new string('a', 21)),
      (413, "POST / HTTP/1.1\r\n" + Chunked + "9\r\n123456789\r\nc\r\n123456789abc\r\n0\r\n\r\n"),
      (413, "POST / HTTP/1.1\r\n" + Chunked + "7fffffff\r\n"),
      (400, "POST / HTTP/1.1\r\n" + Chunked + "x\r\n"), (400, "POST / HTTP/1.1\r\n" + Chunked + "ffffffff\r\n"),
      (400, "POST / HTTP/1.1\r\n" + Chunked + "1\r\nabc\r\n0\r\n\r\n"), (501, "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
      (501, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + Chunked + "0\r\n\r\n"), (400, "POST / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
      (400, "POST / HTTP/1.1\r\nA: b\rc\r\n\r\n"), (400, "POST / HTTP/1.1\r\nA: b\0c\r\n\r\n"),
      (431, "POST / HTTP/1.1\r\nA: " + new string('a', 20000)),
    };
    foreach ((int Status, string Request) one in requests) {
      string answer = Exchange(Echo, one.Request);
      Tests.That(answer.StartsWith("HTTP/1.1 " + one.Status + " ", StringComparison.Ordinal), one.Request.Split('\r')[0] + ": " + answer);
    }
  }

  public static void PartsGoOutAsTheClientsVersionWantsThem() {
    Action<Connection> handle = connection => {
      connection.BeginAnswer("text/event-stream");
      connection.SendPart("one\u00e9");
      connection.SendPart("0123456789abcdef");
      connection.EndAnswer();
    };
    string modern = Exchange(handle, "GET / HTTP/1.1\r\n\r\n"), old = Exchange(handle, "GET / HTTP/1.0\r\n\r\n");
    Tests.That(modern.EndsWith("\r\n\r\n5\r\none\u00e9\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", StringComparison.Ordinal), modern);
    Tests.That(old.EndsWith("\r\n\r\none\u00e90123456789abcdef", StringComparison.Ordinal) && !old.Contains("chunked"), old);
  }

  public static void AClientThatHasGoneIsNoticed() {
    foreach ((bool Reset, string More) one in new[] {(false, ""), (true, ""), (false, "\r\n"), (true, "\r\n")}) {
      var outcome = new BlockingCollection<string>();
      var listener = new Listener(0, 30, connection => {
        connection.ReadHead();
        connection.CheckPresence();
        outcome.Add("here");
        try {
          for (;; Thread.Sleep(5)) connection.CheckPresence();
        } catch (Exception e) when (e is IOException || e is SocketException) {
          outcome.Add("gone");
          throw;
        }
      });
      listener.Start();
      using (var client = new TcpClient()) {
        client.Connect(IPAddress.Loopback, listener.Port);
        if (one.Reset) client.LingerState = new LingerOption(true, 0);
        client.Client.Send(Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\n\r\n" + one.More));
        Tests.Equal("here", Take(outcome), "a client that waits");
      }
      Tests.Equal("gone", Take(outcome), (one.Reset ? "a reset" : "a farewell") + (one.More == "" ? "" : " behind more bytes"));
      listener.Stop(TimeSpan.FromSeconds(5));
    }
  }

  static string Take(BlockingCollection<string> from) => from.TryTake(out string item, 10000) ? item : "nothing";
}

}
