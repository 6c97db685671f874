using System;
using System.Collections.Generic;
using Kvc;

namespace SmolServer {

/// <summary>Knows the share of the arena that a request takes, by kvc's planner.</summary>
sealed class Admission {
  const double Tolerance = 1e-9;   // of sums of shares
  readonly CacheOptions options;
  readonly Dictionary<long, long> most = new Dictionary<long, long>();   // sequences by length

  /// <summary>The options of the cache, but with the codec that the policy wants counted.</summary>
  public Admission(CacheOptions options, Policy policy) {
    this.options = options;
    Policy = policy;
  }

  public Policy Policy { get; }

  /// <summary>The share of a request with so many tokens in all; 0: the arena can never hold it.</summary>
  public double Share(long tokens) {
    long rounded = Math.Min((tokens + 63) / 64 * 64, options.ContextTokens);
    if (Policy.EvictTo > 0) rounded = Math.Min(rounded, Policy.EvictTo + Engine.StepRows);
    if (!most.TryGetValue(rounded, out long sequences)) {
      var request = new PlanRequest {Tokens = rounded, StepTokens = Engine.StepRows, BudgetBytes = options.ArenaBytes};
      sequences = Discovery.Plan(options, request).MaxSequences;
      most[rounded] = sequences;
    }
    return sequences == 0 || 1.0 / sequences > Policy.Most ? 0 : 1.0 / sequences;
  }

  /// <summary>Whether shares that add up to so much find room.</summary>
  public bool Fits(double sum) => sum <= Policy.Most + Tolerance;
}

}
