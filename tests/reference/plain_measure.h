// What Device::measure promises (core/backend/key_statistics.h): rows by the functions of a kernel table, numbers as the host takes them.
#pragma once
#include <functional>
#include <vector>

#include "core/backend/fold.h"

namespace kvc_plain {

// Where the host finds a record of a job.
using Reach = std::function<const std::byte*(const std::byte*)>;

// Rows of one part of the tokens in the basis of append; format: the layer's.
std::vector<float> rows_of(const kvc::KernelTable& kernels, const kvc::LayerFormat& format, const kvc::TokenList& tokens, bool keys,
                           const Reach& reach);
// And Device::route and Device::fold (core/backend/fold.h); rows of the job are the host's.
void route(const kvc::KernelTable& kernels, const kvc::RouteJob& job, const Reach& reach);
void fold(const kvc::KernelTable& kernels, const kvc::FoldJob& job, const Reach& reach);
void measure(const kvc::KernelTable& kernels, const kvc::StatisticJob& job, const Reach& reach);

}  // namespace kvc_plain
