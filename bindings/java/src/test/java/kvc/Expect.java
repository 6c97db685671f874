package kvc;

import java.util.Objects;

/** What a test expects; what is not so is an AssertionError. */
final class Expect {
  private Expect() {}

  static void that(boolean condition, String otherwise) {
    if (!condition) throw new AssertionError(otherwise);
  }

  static void equal(Object expected, Object actual) {
    that(Objects.equals(expected, actual), "expected " + expected + ", got " + actual);
  }

  static <E extends Throwable> E thrown(Class<E> type, Runnable call) {
    try {
      call.run();
    } catch (Throwable e) {
      if (type.isInstance(e)) return type.cast(e);
      throw new AssertionError("expected " + type.getSimpleName() + ", got " + e, e);
    }
    throw new AssertionError("expected " + type.getSimpleName() + ", nothing was thrown");
  }
}
