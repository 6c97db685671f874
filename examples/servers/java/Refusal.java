/** What a request is answered with instead of text. */
final class Refusal extends Exception {
  private static final long serialVersionUID = 1L;
  final int status;

  Refusal(int status, String message) {
    super(message);
    this.status = status;
  }

  static Refusal invalid(String message) { return new Refusal(400, message); }

  static Refusal busy() { return new Refusal(429, "the queue is full"); }

  static Refusal shutdown() { return new Refusal(503, "the server is shutting down"); }

  static Refusal failed(Throwable cause) { return new Refusal(500, String.valueOf(cause.getMessage())); }
}
