using System;

namespace SmolServer {

/// <summary>What a client is told instead of an answer: an HTTP status, and why.</summary>
sealed class RequestException : Exception {
  public RequestException(int status, string message) : base(message) { Status = status; }

  public int Status { get; }

  public static RequestException Invalid(string message) => new RequestException(400, message);
  public static RequestException Busy() => new RequestException(429, "the queue is full");
  public static RequestException Closing() => new RequestException(503, "the server is shutting down");

  /// <summary>The status of any failure.</summary>
  public static int StatusOf(Exception failure) =>
      failure is RequestException refusal ? refusal.Status : failure is ObjectDisposedException ? 503 : 500;
}

}
