using System;

namespace SmolServer {

static class StreamTests {
  public static void SystemPromptsEndBehindTheirMark() {
    const long End = 2;
    long[] opening = {1, 9};
    var cases = new (int Mark, int Length, int Expected)[] {(70, 100, 72), (62, 100, 64), (61, 100, 0), (70, 72, 0), (70, 73, 72), (200, 100, 0)};
    foreach ((int Mark, int Length, int Expected) one in cases) {
      var tokens = new long[one.Length];
      opening.CopyTo(tokens, 0);
      if (one.Mark < one.Length) tokens[one.Mark] = End;
      Tests.Equal(one.Expected, Stream.SystemTokens(tokens, opening, End), "mark at " + one.Mark + " of " + one.Length);
      Tests.Equal(0, Stream.SystemTokens(tokens, new long[] {1, 8}, End), "another opening");
    }
  }
}

}
