package kvc;

import kvc.raw.kvc_plan_request;

/** What a plan is asked for. */
public final class PlanRequest {
  final kvc_plan_request raw = new kvc_plan_request();

  /** Steps are begun with partialCommit. */
  public PlanRequest partialCommit(boolean value) {
    raw.setPartial_commit(value ? 1 : 0);
    return this;
  }

  /** Tokens per sequence. */
  public PlanRequest tokens(long value) {
    raw.setTokens(value);
    return this;
  }

  public PlanRequest sequences(long value) {
    raw.setSequences(value);
    return this;
  }

  public PlanRequest stepTokens(long value) {
    raw.setStep_tokens(value);
    return this;
  }

  public PlanRequest budgetBytes(long value) {
    raw.setBudget_bytes(value);
    return this;
  }
}
