package kvc;

import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import kvc.raw.kvc_attend_options;

/** The calls of the raw layer. */
final class JniCalls extends HotCalls {
  @Override
  String name() { return "jni"; }

  @Override
  void append(long step, long layer, ByteBuffer k, ByteBuffer v) { kvc_append(step, layer, k, v); }

  @Override
  void append(long step, long layer, long k, long kBytes, long v, long vBytes) { kvc_append_at(step, layer, k, kBytes, v, vBytes); }

  @Override
  void attend(long step, long layer, ByteBuffer q, ByteBuffer out, FloatBuffer lse, kvc_attend_options options) {
    kvc_attend(step, layer, q, out, lse, options);
  }

  @Override
  void attend(long step, long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes, kvc_attend_options options) {
    kvc_attend_at(step, layer, q, qBytes, out, outBytes, lse, lseBytes, options);
  }

  @Override
  void commit(long step, LongBuffer accepted) { kvc_step_commit(step, accepted); }
}
