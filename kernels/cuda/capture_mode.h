// What captures of streams forbid: as a capture begins, to whom; of a thread, by whose it is bound.
#pragma once

namespace kvc::cuda {

// As CUDA defines them. A capture that began as `relaxed` forbids nothing to its own thread, one that began as `global` what is unsafe to
// all threads that are `global` themselves. Nothing but its own thread's captures binds a `local` thread, and nothing a `relaxed` one; what
// touches a captured stream itself is forbidden to all.
enum class CaptureMode { global, local, relaxed };

}  // namespace kvc::cuda
