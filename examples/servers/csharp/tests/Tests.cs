using System;

namespace SmolServer {

/// <summary>What the black-box test cannot see: server_tests.exe, started at the top of the clone.</summary>
static class Tests {
  static int Main() {
    var tests = new Action[] {
      StreamTests.SystemPromptsEndBehindTheirMark, StreamTests.EventsAreWaitedFor, JsonTests.ValuesAreRead,
      JsonTests.WhatIsNoJsonIsRefused, JsonTests.QuotedTextIsReadBack, ConnectionTests.BodiesArriveInEveryForm,
      ConnectionTests.RequestsFollowEachOther, ConnectionTests.MalformedRequestsAreRefused,
      ConnectionTests.PartsGoOutAsTheClientsVersionWantsThem, ConnectionTests.AClientThatHasGoneIsNoticed,
      Tests.ThreadsAreAsManyAsProcessorsAndTheModelLibraryAllow, EngineTests.APromptWithoutTokensIsRefused, EngineTests.NoStreamFailsForMemoryThatCannotBeGivenUp,
      EngineTests.PreemptedStreamsGoOnAsIfNothingHadHappened,
    };
    int failed = 0;
    foreach (Action test in tests) {
      try {
        test();
      } catch (Exception e) {
        failed++;
        Console.Error.WriteLine(test.Method.Name + ": " + e);
      }
    }
    Console.WriteLine("server_tests: " + (tests.Length - failed) + " passed, " + failed + " failed");
    return failed == 0 ? 0 : 1;
  }

  static void ThreadsAreAsManyAsProcessorsAndTheModelLibraryAllow() {
    Equal("2 257 257", string.Join(" ", Settings.DefaultThreads(2), Settings.DefaultThreads(257), Settings.DefaultThreads(300)), "threads");
  }

  public static void Equal<T>(T expected, T got, string what) {
    if (!Equals(expected, got)) throw new InvalidOperationException(what + ": " + got + ", expected " + expected);
  }

  public static void That(bool holds, string what) {
    if (!holds) throw new InvalidOperationException(what);
  }
}

}
