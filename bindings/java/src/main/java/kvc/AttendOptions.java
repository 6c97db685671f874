package kvc;

import kvc.raw.kvc_attend_options;

/** How one attend computes. An object serves any number of calls, on any thread while nobody changes it. */
public final class AttendOptions {
  final kvc_attend_options raw = new kvc_attend_options();

  /** 0 = 1 / sqrt(kDim). */
  public AttendOptions scale(float value) {
    raw.setScale(value);
    return this;
  }

  public AttendOptions softCap(float value) {
    raw.setSoft_cap(value);
    return this;
  }

  public AttendOptions partial(boolean value) {
    raw.setPartial(value ? 1 : 0);
    return this;
  }

  public AttendOptions slidingWindow(long value) {
    raw.setSliding_window(value);
    return this;
  }

  public AttendOptions causalOffset(long value) {
    raw.setCausal_offset(value);
    return this;
  }
}
