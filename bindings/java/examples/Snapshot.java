import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.List;
import kvc.Cache;
import kvc.Sequence;

/** A sequence leaves the cache as bytes, comes back, and goes on where it was. */
final class Snapshot {
  public static void main(String[] arguments) {
    try (Cache cache = Inputs.newCache()) {
      ByteBuffer bytes;
      try (Sequence sequence = cache.newSequence()) {
        Inputs.run(cache, sequence, 200, 1, Inputs.sha256());
        bytes = cache.exportSnapshot(List.of(sequence));
      }
      System.out.println("bytes " + bytes.remaining());
      try (Sequence restored = cache.importSnapshot(bytes).get(0)) {
        System.out.println("restored " + restored.length());
        MessageDigest digest = Inputs.sha256();
        Inputs.run(cache, restored, 1, 1, digest);
        System.out.println("sha256 " + Inputs.hex(digest));
      }
    }
  }
}
