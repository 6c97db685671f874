import java.security.MessageDigest;
import kvc.Cache;
import kvc.Sequence;

/** A prompt of 200 tokens, then 8 tokens one by one: keys and values go in, attention over the compressed pages comes out. */
final class AppendAttend {
  public static void main(String[] arguments) {
    MessageDigest digest = Inputs.sha256();
    try (Cache cache = Inputs.newCache(); Sequence sequence = cache.newSequence()) {
      Inputs.run(cache, sequence, 200, 1, digest);
      for (int i = 0; i < 8; i++) Inputs.run(cache, sequence, 1, 1, digest);
      System.out.println("tokens " + sequence.stats().tokens());
      System.out.println("sha256 " + Inputs.hex(digest));
      System.out.println("record_bytes " + sequence.stats().recordBytes());
    }
  }
}
