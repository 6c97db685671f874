import java.io.IOException;
import java.util.Arrays;
import java.util.function.IntSupplier;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.CacheStats;
import kvc.KvcException;

/** A server of SmolLM2-135M with kvc as its KV cache. docs/SERVERS.md tells what it promises. */
final class Main {
  private static final long GRACE_MILLIS = 2000; // of running streams at the end
  private static final long LAST_ANSWERS_MILLIS = 1000;

  private static volatile IntSupplier ending = () -> 0; // what is done at a signal, and the exit status; there is nothing to do yet

  private Main() {}

  public static void main(String[] words) {
    // A signal runs the hook; the status that the JVM would end with is not 0, so the hook ends the process itself.
    Runtime.getRuntime().addShutdownHook(new Thread(() -> Runtime.getRuntime().halt(ending.getAsInt()), "end"));
    if (Arrays.asList(words).contains("--help")) {
      System.out.print(Settings.HELP);
      return;
    }
    try {
      serve(Settings.parse(words));
      return;
    } catch (IllegalArgumentException | IOException | KvcException | LinkageError e) {
      System.err.println("server: " + e.getMessage());
    } catch (RuntimeException | Error e) {
      e.printStackTrace();
    }
    Runtime.getRuntime().halt(1);
  }

  private static CacheOptions options(Settings set, Model model, Policy policy) {
    return new CacheOptions().layers(model.layers).kvHeads(model.kvHeads).qHeads(model.qHeads).kDim(model.headDim).codec(set.mode())
        .arenaBytes(set.arenaBytes()).threads(set.threads() - 1).policy(policy.library()).contextTokens(model.context);
  }

  private static void serve(Settings set) throws IOException {
    Model model = new Model(set.folder(), set.threads());
    Policy policy = Policy.parse(set.policy(), set.mode());
    Cache cache = new Cache(options(set, model, policy));
    Admission admission = new Admission(options(set, model, policy), policy, model.context, set.arenaBytes());
    if (admission.share(64) == 0)
      throw new IllegalArgumentException("--arena-bytes " + set.arenaBytes() + " holds not even one request of 64 tokens");
    Engine engine = new Engine(model, cache, admission, set.maxQueue());
    Server server = new Server(engine, set);
    Thread thread = new Thread(engine, "engine");
    thread.setUncaughtExceptionHandler((where, fault) -> {
      fault.printStackTrace();
      Runtime.getRuntime().halt(1);
    });
    thread.start();
    server.start();
    ending = () -> end(engine, server);
    System.out.println("listening on 127.0.0.1:" + server.port());
  }

  /** Ends what runs, checks that nothing is left, and gives the exit status. */
  private static int end(Engine engine, Server server) {
    try {
      engine.shutdown(GRACE_MILLIS);
      boolean quiet = server.stop(LAST_ANSWERS_MILLIS);
      engine.cache.clearPrefixes();
      CacheStats stats = engine.cache.stats();
      engine.cache.close();
      if (quiet) engine.model.close(); // otherwise a request may still be read by its tokenizer
      if (stats.sequences() == 0 && stats.recordBytes() == 0 && stats.openSteps() == 0) return 0;
      System.err.printf("server: %d sequences, %d record bytes and %d steps are left%n",
          stats.sequences(), stats.recordBytes(), stats.openSteps());
    } catch (KvcException | InterruptedException e) {
      System.err.println("server: " + e);
    }
    return 1;
  }
}
