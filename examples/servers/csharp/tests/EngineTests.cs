using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Kvc;

namespace SmolServer {

static class EngineTests {
  const int TextTokens = 150;
  const string Prompt = "<|im_start|>user\nTell me a long story about a river, a mill and a miller's daughter.<|im_end|>\n<|im_start|>assistant\n";

  // Runs an engine over fp16 pages, whose admission lets in so many times what fits; and looks that it leaves nothing.
  static void With(Model model, long arenaBytes, double times, Action<Engine> use) {
    var options = new CacheOptions {
      Layers = model.Layers, KvHeads = model.KvHeads, QHeads = model.QHeads, KDim = model.HeadDim, Codec = "fp16", ArenaBytes = arenaBytes,
      Threads = 1, ContextTokens = model.ContextTokens};
    using (var cache = new Cache(options)) {
      var engine = new Engine(model, cache, new Admission(options, new Policy {Most = times, Planned = "fp16"}), 0);
      engine.Start();
      try {
        use(engine);
      } finally {
        engine.Shutdown(TimeSpan.FromSeconds(1));
      }
      Tests.Equal(0, cache.Stats().Sequences + cache.Stats().RecordBytes, "left behind");
    }
  }

  static Stream Submit(Engine engine) {
    var stream = new Stream(engine.Model.Encode(Prompt), TextTokens, 0);
    engine.Submit(stream);
    return stream;
  }

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

  // Admission that lets in too many makes streams lose their sequences; what they write stays the same.
  public static void PreemptedStreamsGoOnAsIfNothingHadHappened() {
    const long Room = 12 << 20;   // two of the streams
    using (var model = new Model("build/servers/model", 2)) {
      string expected = null;
      With(model, Room, 1, engine => {
        expected = Text(Submit(engine));
        Tests.That(expected.Length >= 200 && engine.Count.Preempted.Value == 0, "alone: " + expected);
      });
      With(model, Room, 2, engine => {
        List<Stream> streams = Enumerable.Range(0, 4).Select(_ => Submit(engine)).ToList();
        foreach (Stream stream in streams) Tests.Equal(expected, Text(stream), "a stream among four");
        Tests.That(engine.Count.Preempted.Value > 0, "nothing was preempted: the test is too small");
      });
    }
  }
}

}
