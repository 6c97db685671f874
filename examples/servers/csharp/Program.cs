using System;
using System.Net.Sockets;
using Kvc;

namespace SmolServer {

/// <summary>A server of SmolLM2-135M with kvc as its KV cache. docs/SERVERS.md tells what it promises.</summary>
static class Program {
  static readonly TimeSpan grace = TimeSpan.FromSeconds(2);        // of running streams at the end
  static readonly TimeSpan lastAnswers = TimeSpan.FromSeconds(1);

  // The run time would wait for connections whose tokenizers are still at work.
  static void Main(string[] words) {
    int status = Status(words);
    Console.Out.Flush();
    Signals.EndProcess(status);
  }

  static int Status(string[] words) {
    if (Array.IndexOf(words, "--help") >= 0) {
      Console.WriteLine(Settings.Help);
      return 0;
    }
    try {
      Run(Settings.Parse(words));
      return 0;
    } catch (Exception e) when (e is ArgumentException || e is KvcException || e is InvalidOperationException || e is SocketException ||
                                e is DllNotFoundException) {
      Console.Error.WriteLine("server: " + e.Message);
      return 1;
    }
  }

  static CacheOptions Options(Settings settings, Model model, Policy policy, string codec) => new CacheOptions {
    Layers = model.Layers, KvHeads = model.KvHeads, QHeads = model.QHeads, KDim = model.HeadDim, Codec = codec,
    ArenaBytes = settings.ArenaBytes, Threads = settings.Threads - 1, Policy = policy.Library, ContextTokens = model.ContextTokens
  };

  static void Run(Settings settings) {
    Signals.Catch();   // from now on one waits until there is something to end
    Library.Load();
    using (var model = new Model(settings.Folder, settings.Threads)) {
      Policy policy = Policy.Parse(settings.Policy, settings.Mode);
      using (var cache = new Cache(Options(settings, model, policy, settings.Mode))) {
        var admission = new Admission(Options(settings, model, policy, policy.Planned), policy);
        if (admission.Share(64) == 0) {
          throw new ArgumentException("--arena-bytes " + settings.ArenaBytes + " holds not even one request of 64 tokens");
        }
        Serve(new Engine(model, cache, admission, settings.MaxQueue), settings);
      }
    }
  }

  // Serves until a signal says to end, and checks that nothing is left.
  static void Serve(Engine engine, Settings settings) {
    var listener = new Listener(settings.Port, settings.WriteTimeout, new Server(engine).Handle);
    engine.Start();
    listener.Start();
    Console.WriteLine("listening on 127.0.0.1:" + listener.Port);
    Signals.Wait();
    engine.Shutdown(grace);
    listener.Stop(lastAnswers);
    engine.Cache.Prefixes.Clear();
    CacheStats left = engine.Cache.Stats();
    if (left.Sequences != 0 || left.RecordBytes != 0 || left.OpenSteps != 0) {
      throw new InvalidOperationException(left.Sequences + " sequences, " + left.RecordBytes + " record bytes and " + left.OpenSteps +
                                          " steps are left");
    }
  }
}

}
