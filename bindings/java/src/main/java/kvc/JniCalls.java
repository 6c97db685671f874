package kvc;

import static kvc.raw.kvc.*;

import kvc.raw.kvc_attend_options;

/** The calls of the raw layer. */
final class JniCalls extends AddressCalls {
  @Override
  String name() { return "jni"; }

  @Override
  void append(long step, long layer, long k, long kBytes, long v, long vBytes) { kvc_append_at(step, layer, k, kBytes, v, vBytes); }

  @Override
  void attend(long step, long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes, kvc_attend_options options) {
    kvc_attend_at(step, layer, q, qBytes, out, outBytes, lse, lseBytes, options);
  }
}
