using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace SmolServer {

/// <summary>
/// Requests over HTTP/1.1 or 1.0 and their answers, one after the other. System.Net.HttpListener would not do: it cannot take a free
/// port, and does not tell that a client has gone before something is written to it.
/// RequestException: the request is malformed. IOException, SocketException: the client has gone.
/// </summary>
sealed class Connection : IDisposable {
  const int HeadBytesMost = 16384;
  const int HeadSeconds = 10, BodySeconds = 10, LingerSeconds = 1;
  const int SilentMilliseconds = 500;   // that a connection may keep its place without a word where others want it
  static readonly Dictionary<int, string> reasons = new Dictionary<int, string> {
    {200, "OK"}, {400, "Bad Request"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"},
    {413, "Content Too Large"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
    {501, "Not Implemented"}, {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"}};
  readonly Socket socket;
  readonly Func<bool> othersWait;
  readonly byte[] buffer = new byte[4096];
  readonly Stopwatch clock = Stopwatch.StartNew();
  readonly Dictionary<string, string> headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
  int from, to;         // what was received and not read
  int headBytes;
  double deadline = HeadSeconds;
  bool modern, chunks;  // HTTP/1.1; the answer goes out in chunks
  bool inChunks;        // so does the body come; else it has a length
  long length;
  bool framed;          // it is known where the request ends: its head was understood, and its body read if it has one

  /// <summary>othersWait says that there is no place left for another connection.</summary>
  public Connection(Socket socket, Func<bool> othersWait) {
    this.socket = socket;
    this.othersWait = othersWait;
    socket.NoDelay = true;
  }

  public string Method { get; private set; } = "";
  public string Path { get; private set; } = "";

  /// <summary>Some of the answer was sent: it cannot become another one.</summary>
  public bool Answered { get; private set; }

  /// <summary>A host was named, or need not be.</summary>
  public bool HasHost => !modern || headers.ContainsKey("Host");

  /// <summary>Another request may follow.</summary>
  public bool Persists { get; private set; }

  /// <summary>Waits for a request and reads what stands before the body.</summary>
  public void ReadHead() {
    Answered = Persists = framed = modern = chunks = false;
    Method = Path = "";
    headers.Clear();
    headBytes = 0;
    deadline = clock.Elapsed.TotalSeconds + HeadSeconds;
    string first = ReadLine();
    string[] words = (first != "" ? first : ReadLine()).Split(' ');   // an empty line may follow the request before
    if (words.Length != 3 || words[0] == "" || !words[2].StartsWith("HTTP/", StringComparison.Ordinal)) {
      throw RequestException.Invalid("this is no request of HTTP/1.1");
    }
    if (!words[2].StartsWith("HTTP/1.", StringComparison.Ordinal)) throw new RequestException(505, words[2] + " is not spoken here");
    Method = words[0];
    Path = PathOf(words[1]);
    modern = words[2] != "HTTP/1.0";
    for (string line; (line = ReadLine()) != "";) {
      int colon = line.IndexOf(':');
      if (colon < 1 || line.IndexOfAny(new[] {' ', '\t'}, 0, colon) >= 0 || line.IndexOfAny(new[] {'\r', '\0'}) >= 0) {
        throw RequestException.Invalid("a header field is malformed");
      }
      string name = line.Substring(0, colon), value = line.Substring(colon + 1).Trim(' ', '\t');
      bool isTwice = headers.TryGetValue(name, out string before);
      if (isTwice && (Is(name, "Host") || Is(name, "Content-Length"))) throw RequestException.Invalid(name + " is given twice");
      headers[name] = isTwice && Is(name, "Transfer-Encoding") ? before + ", " + value : value;   // two fields are one list
    }
    CheckFraming();
  }

  // What the head says of the body.
  void CheckFraming() {
    inChunks = headers.TryGetValue("Transfer-Encoding", out string coding);
    bool hasLength = headers.TryGetValue("Content-Length", out string text);
    length = 0;
    if (inChunks && !Is(coding, "chunked")) throw new RequestException(501, "no such Transfer-Encoding: " + coding);
    if (inChunks && hasLength) throw RequestException.Invalid("a body has a length or comes in chunks");
    if (hasLength && !long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out length)) {
      throw RequestException.Invalid("Content-Length is no number");
    }
    framed = !inChunks && length == 0;
  }

  // Of a target, which may name the server, too: http://host/path. What has no path, or a fragment, is left as it is.
  static string PathOf(string target) {
    if (target.IndexOf('#') >= 0) return target;
    string path = target.Split('?')[0];
    if (!path.StartsWith("http://", StringComparison.OrdinalIgnoreCase)) return path;
    int slash = path.IndexOf('/', "http://".Length);
    return slash < 0 ? "/" : path.Substring(slash);
  }

  static bool Is(string word, string expected) => word.Equals(expected, StringComparison.OrdinalIgnoreCase);

  /// <summary>Reads the body, of so many bytes at most.</summary>
  public byte[] ReadBody(int most) {
    deadline = clock.Elapsed.TotalSeconds + BodySeconds;
    if (length > most) throw TooLarge(most);
    if (modern && headers.TryGetValue("Expect", out string expected) && Is(expected, "100-continue")) {
      SendAll(Encoding.ASCII.GetBytes("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    using (var body = new MemoryStream()) {
      if (inChunks) {
        ReadChunks(body, most);
      } else {
        CopyTo(body, length);
      }
      framed = true;
      return body.ToArray();
    }
  }

  static RequestException TooLarge(int most) => new RequestException(413, "the body has more than " + most + " bytes");

  void ReadChunks(MemoryStream body, int most) {
    for (;;) {
      headBytes = 1;   // each chunk's lines have their own limit
      string size = ReadLine().Split(';')[0].Trim();
      if (!int.TryParse(size, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int n) || n < 0) {
        throw RequestException.Invalid("a chunk's size is no number");
      }
      if (n == 0) break;
      if (body.Length + n > most) throw TooLarge(most);
      CopyTo(body, n);
      if (ReadLine() != "") throw RequestException.Invalid("a chunk is longer than its size");
    }
    while (ReadLine() != "") {
      // Trailers say nothing that matters here.
    }
  }

  void CopyTo(MemoryStream body, long n) {
    while (n > 0) {
      if (from == to) Receive();
      int part = (int)Math.Min(n, to - from);
      body.Write(buffer, from, part);
      from += part;
      n -= part;
    }
  }

  // One line of the head, without its end.
  string ReadLine() {
    var line = new StringBuilder();
    for (;;) {
      if (from == to) Receive();
      if (++headBytes > HeadBytesMost) throw new RequestException(431, "the head has more than " + HeadBytesMost + " bytes");
      char c = (char)buffer[from++];
      if (c == '\n') return line.Length > 0 && line[line.Length - 1] == '\r' ? line.ToString(0, line.Length - 1) : line.ToString();
      line.Append(c);
    }
  }

  // Waits for more bytes.
  void Receive() {
    while (headBytes == 0 && !socket.Poll(SilentMilliseconds * 1000, SelectMode.SelectRead)) {
      if (othersWait() || clock.Elapsed.TotalSeconds > deadline) throw new EndOfStreamException();   // nothing more is asked
    }
    int left = (int)((deadline - clock.Elapsed.TotalSeconds) * 1000);
    if (left <= 0 || !socket.Poll(left * 1000, SelectMode.SelectRead)) {
      if (headBytes == 0) throw new EndOfStreamException();   // nothing more is asked
      throw new RequestException(408, "the request did not arrive in time");
    }
    from = 0;
    to = socket.Receive(buffer);
    if (to == 0) throw new EndOfStreamException();
  }

  // What the client has sent beyond its request may stand before the end of the connection. Socket.Poll does not tell one from the other.
  const short PollReadHangUp = 0x2000;   // of Linux
  [StructLayout(LayoutKind.Sequential)]
  struct Polled {
    public int socket;
    public short asked, found;
  }
  [DllImport("libc")]
  static extern int poll(ref Polled sockets, UIntPtr n, int milliseconds);

  /// <summary>Throws if the client has gone, or closed its half of the connection.</summary>
  public void CheckPresence() {
    var end = new Polled {socket = (int)socket.Handle, asked = PollReadHangUp};
    if (poll(ref end, (UIntPtr)1, 0) > 0) throw new EndOfStreamException();
  }

  /// <summary>The whole answer.</summary>
  public void Answer(int status, string type, string body, string moreHeaders = "") {
    byte[] bytes = Encoding.UTF8.GetBytes(body);
    SendHead(status, type, "Content-Length: " + bytes.Length + "\r\n" + moreHeaders);
    if (Method != "HEAD") SendAll(bytes);
  }

  /// <summary>The beginning of an answer whose parts come one by one.</summary>
  public void BeginAnswer(string type) {
    chunks = modern;
    SendHead(200, type, "Cache-Control: no-cache\r\n" + (chunks ? "Transfer-Encoding: chunked\r\n" : ""));
  }

  public void SendPart(string text) {
    byte[] bytes = Encoding.UTF8.GetBytes(text);
    using (var part = new MemoryStream()) {
      if (chunks) Write(part, bytes.Length.ToString("x", CultureInfo.InvariantCulture) + "\r\n");
      part.Write(bytes, 0, bytes.Length);
      if (chunks) Write(part, "\r\n");
      SendAll(part.ToArray());
    }
  }

  /// <summary>All parts were sent.</summary>
  public void EndAnswer() {
    if (chunks) SendAll(Encoding.ASCII.GetBytes("0\r\n\r\n"));
  }

  static void Write(MemoryStream to, string text) => to.Write(Encoding.ASCII.GetBytes(text), 0, text.Length);

  void SendHead(int status, string type, string more) {
    Answered = true;
    Persists = modern && framed && !(headers.TryGetValue("Connection", out string wish) && Is(wish, "close"));
    SendAll(Encoding.ASCII.GetBytes("HTTP/1.1 " + status + " " + reasons[status] + "\r\nContent-Type: " + type + "\r\n" + more +
                                    "Date: " + DateTime.UtcNow.ToString("r", CultureInfo.InvariantCulture) + "\r\n" +
                                    (Persists ? "\r\n" : "Connection: close\r\n\r\n")));
  }

  void SendAll(byte[] bytes) {
    for (int sent = 0; sent < bytes.Length;) sent += socket.Send(bytes, sent, bytes.Length - sent, SocketFlags.None);
  }

  /// <summary>
  /// Ends the connection once the client has read the answer: to close while something is left unread would take the answer from it.
  /// </summary>
  public void Finish() {
    socket.Shutdown(SocketShutdown.Send);
    for (double end = clock.Elapsed.TotalSeconds + LingerSeconds; clock.Elapsed.TotalSeconds < end;) {
      if (socket.Poll(LingerSeconds * 100000, SelectMode.SelectRead) && socket.Receive(buffer) == 0) return;
    }
  }

  public void Dispose() => socket.Dispose();
}

}
