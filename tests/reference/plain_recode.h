// What Device::recode promises (core/backend/recode.h), token by token with the functions of a kernel table.
#pragma once
#include "core/backend/recode.h"

namespace kvc_plain {

// Pointers of the job are the host's.
void recode(const kvc::KernelTable& kernels, const kvc::RecodeParams& job);

}  // namespace kvc_plain
