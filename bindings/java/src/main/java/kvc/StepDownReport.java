package kvc;

import kvc.raw.kvc_step_down_report;

/** What a step-down did: kvc_step_down_report. */
public record StepDownReport(
    long pages, long tokensRequantized, long bytesFreed, long recordBytes) {
  StepDownReport(kvc_step_down_report raw) {
    this(raw.getPages(), raw.getTokens_requantized(), raw.getBytes_freed(), raw.getRecord_bytes());
  }
}
