import kvc.Kvc;

/**
 * What a server gives up when memory is full, and how much of the arena requests may count on.
 *
 * @param library for kvc itself: acts at all times
 * @param evictTo tokens; 0 = never
 * @param most sum of shares
 * @param planned codec that admission counts
 */
record Policy(String library, boolean stepDown, int evictTo, double most, String planned) {
  private static final double OF_ROOM = 7.0 / 8;
  private static final String EVICT = "evict:";

  static Policy parse(String text, String mode) {
    if (text.equals("step-down")) return new Policy("", true, 0, OF_ROOM, lastRung(mode));
    if (text.startsWith(EVICT)) return new Policy("", false, tokens(text), OF_ROOM, mode);
    return new Policy(text, false, 0, 1, mode);
  }

  private static int tokens(String text) {
    String digits = text.substring(EVICT.length());
    try {
      if (digits.matches("[0-9]+") && Integer.parseInt(digits) >= 1) return Integer.parseInt(digits);
    } catch (NumberFormatException e) {
      // Said below.
    }
    throw new IllegalArgumentException("--policy " + text + ": a number of tokens follows " + EVICT);
  }

  /** The codec of a ladder's last rung, with the window and sinks that the first one says for all. */
  private static String lastRung(String ladder) {
    String[] rungs = Kvc.formatCodec(ladder).split("/");
    if (rungs.length < 2)
      throw new IllegalArgumentException("--policy step-down needs a ladder as --mode, such as int8/int4, not " + ladder);
    String last = rungs[rungs.length - 1].split("@")[0];
    return last + rungs[0].substring(rungs[0].indexOf(",window="));
  }
}
