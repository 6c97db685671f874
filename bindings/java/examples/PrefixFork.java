import java.nio.ByteBuffer;
import java.nio.LongBuffer;
import java.util.stream.LongStream;
import kvc.Cache;
import kvc.Direct;
import kvc.PrefixHit;
import kvc.Sequence;

/** What was computed for one prompt serves the next that begins alike, and a fork goes its own way from there. */
final class PrefixFork {
  /** Token i of every prompt here has the id 1000 i + 7. */
  private static LongBuffer ids(int n) { return Direct.of(LongStream.range(0, n).map(i -> 1000 * i + 7).toArray()); }

  public static void main(String[] arguments) {
    ByteBuffer salt = Direct.of("tenant");
    try (Cache cache = Inputs.newCache(); Sequence first = cache.newSequence()) {
      Inputs.run(cache, first, 200, 1, Inputs.sha256());
      first.publish(ids(200), salt, null);
      PrefixHit hit = cache.lookup(ids(250), salt, null);
      System.out.println("hit " + hit.tokens());
      try (Sequence found = hit.sequence(); Sequence fork = found.fork(found.length())) {
        Inputs.run(cache, fork, 10, 2, Inputs.sha256());
        System.out.println("original " + found.length() + " fork " + fork.length());
      }
    }
  }
}
