using System;
using System.Text;
using Kvc.Raw;

namespace Kvc {

/// <summary>The prefix index of a cache. Tokens are any numbers that stand for the model's input; a salt keeps tenants apart.</summary>
public sealed unsafe class PrefixIndex {
  readonly Cache cache;

  internal PrefixIndex(Cache cache) { this.cache = cache; }

  /// <summary>Publishes the sequence's first tokens, as many as are given, under them.</summary>
  public void Publish(Sequence sequence, ReadOnlySpan<long> tokens, ReadOnlySpan<byte> salt, PrefixOptions options = null) {
    if (sequence == null) throw new ArgumentNullException(nameof(sequence));
    sequence.RequireIn(cache, "kvc_prefix_publish");
    fixed (long* first = &tokens.GetPinnableReference())
    fixed (byte* s = &salt.GetPinnableReference()) {
      kvc.kvc_prefix_publish(cache.handle, sequence.handle, first, tokens.Length, s, salt.Length, options?.raw);
    }
  }

  /// <summary>A new sequence with the longest published beginning of a prompt; the caller appends the tokens from hit.Tokens on.</summary>
  public Sequence Lookup(ReadOnlySpan<long> tokens, ReadOnlySpan<byte> salt, out PrefixHit hit, SequenceOptions options = null) {
    var found = new PrefixHit();
    fixed (long* first = &tokens.GetPinnableReference())
    fixed (byte* s = &salt.GetPinnableReference()) {
      SequenceHandle made = kvc.kvc_prefix_lookup(cache.handle, first, tokens.Length, s, salt.Length, options?.raw, found.raw);
      hit = found;
      return new Sequence(cache, made);
    }
  }

  /// <summary>Removes all entries of the salt whose tokens begin with these; without tokens all of the salt. Returns how many.</summary>
  public long Remove(ReadOnlySpan<long> tokens, ReadOnlySpan<byte> salt) {
    long removed;
    fixed (long* first = &tokens.GetPinnableReference())
    fixed (byte* s = &salt.GetPinnableReference()) {
      kvc.kvc_prefix_remove(cache.handle, first, tokens.Length, s, salt.Length, &removed);
    }
    return removed;
  }

  /// <summary>Removes all entries of all salts.</summary>
  public void Clear() => kvc.kvc_prefix_clear(cache.handle);

  /// <summary>The most bytes of records that entries may hold from now on; 0 = no bound but the arena.</summary>
  public void SetBudget(long bytes) => kvc.kvc_prefix_budget_set(cache.handle, bytes);

  /// <summary>Bytes and counters of the index now.</summary>
  public PrefixStats Stats() {
    var stats = new PrefixStats();
    kvc.kvc_prefix_stats_get(cache.handle, stats.raw);
    return stats;
  }

  /// <summary>A word as a salt.</summary>
  public static byte[] Salt(string word) => Encoding.UTF8.GetBytes(word);
}

}
