using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Kvc;

namespace SmolServer {

static class EngineTests {
  const int TextTokens = 150;
  const string Prompt = "<|im_start|>user\nTell me a long story about a river, a mill and a miller's daughter.<|im_end|>\n<|im_start|>assistant\n";

  static CacheOptions Options(Model model, long arenaBytes, string codec) => new CacheOptions {
    Layers = model.Layers, KvHeads = model.KvHeads, QHeads = model.QHeads, KDim = model.HeadDim, Codec = codec, ArenaBytes = arenaBytes,
    Threads = 1, ContextTokens = model.ContextTokens};

  // Runs an engine whose policy may admit more than fits; and looks that it leaves nothing.
  static void With(Model model, long arenaBytes, string codec, Policy policy, Action<Engine> use) {
    using (var cache = new Cache(Options(model, arenaBytes, codec))) {
      var engine = new Engine(model, cache, new Admission(Options(model, arenaBytes, policy.Planned), policy), 16);
      engine.Start();
      try {
        use(engine);
      } finally {
        engine.Shutdown(TimeSpan.FromSeconds(1));
      }
      cache.Prefixes.Clear();
      Tests.Equal(0, cache.Stats().Sequences + cache.Stats().RecordBytes, "left behind");
    }
  }

  static Stream Submit(Engine engine, Stream stream) {
    engine.Submit(stream);
    return stream;
  }

  static Stream Submit(Engine engine) => Submit(engine, new Stream(engine.Model.Encode(Prompt), TextTokens, 0));

  static string Text(Stream stream) {
    var text = new StringBuilder();
    for (;;) {
      Event one = stream.Receive(300000);
      Tests.That(one != null, "no token came in five minutes");
      if (one.Failure != null) throw one.Failure;
      text.Append(one.Text);
      if (one.Finish != null) return text.ToString();
    }
  }

  public static void APromptWithoutTokensIsRefused() {
    using (var model = new Model("build/servers/model", 2)) {
      With(model, 12 << 20, "fp16", new Policy {Planned = "fp16"}, engine => {
        try {
          engine.Submit(new Stream(new long[0], 1, 0));
        } catch (RequestException e) when (e.Status == 400) {
          return;
        }
        throw new InvalidOperationException("it was taken");
      });
    }
  }

  // Pages that step down are written anew while others may still share the old ones. Where that finds no room, nothing fails: somebody
  // waits.
  public static void NoStreamFailsForMemoryThatCannotBeGivenUp() {
    const long Room = 16 << 20;   // one stream and a little more; what five write is beyond it even where they share their beginning
    string system = "<|im_start|>system\n" + string.Join(" ", Enumerable.Repeat("You know every book of the town by heart.", 50)) + "<|im_end|>\n";
    using (var model = new Model("build/servers/model", 2)) {
      long[] prompt = model.Encode(system + Prompt);
      int shared = Stream.SystemTokens(prompt, model.Encode("<|im_start|>system"), model.Encode("<|im_end|>")[0]);
      With(model, Room, "fp16,window=0/int8", new Policy {StepsDown = true, Most = 3, Planned = "int8,window=0"}, engine => {
        Func<int, Stream> ask = tokens => Submit(engine, new Stream(prompt, tokens, shared));
        Text(ask(1));   // publishes the system prompt
        List<Stream> streams = Enumerable.Range(0, 5).Select(_ => ask(TextTokens)).ToList();
        foreach (Stream stream in streams) Tests.That(Text(stream).Length >= 200, "a stream without text");
      });
    }
  }

  // Admission that lets in too many makes streams lose their sequences; what they write stays the same.
  public static void PreemptedStreamsGoOnAsIfNothingHadHappened() {
    const long Room = 12 << 20;   // two of the streams
    using (var model = new Model("build/servers/model", 2)) {
      string expected = null;
      With(model, Room, "fp16", new Policy {Planned = "fp16"}, engine => {
        expected = Text(Submit(engine));
        Tests.That(expected.Length >= 200 && engine.Count.Preempted.Value == 0, "alone: " + expected);
      });
      With(model, Room, "fp16", new Policy {Most = 2, Planned = "fp16"}, engine => {
        List<Stream> streams = Enumerable.Range(0, 4).Select(_ => Submit(engine)).ToList();
        foreach (Stream stream in streams) Tests.Equal(expected, Text(stream), "a stream among four");
        Tests.That(engine.Count.Preempted.Value > 0, "nothing was preempted: the test is too small");
      });
    }
  }
}

}
