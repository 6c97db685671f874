// From a backend's parameters to kernels: which instantiation, how many blocks. All pointers in arguments are the device's.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// A launch's worth of items; all share params. rows: the largest tokens * group of an item.
void launch_attend(const AttendParams& params, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream);
// The same for items of the prompt class, which share no launch with others.
void launch_prompt(const AttendParams& params, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream);

// Adds the mass of items of one class to their counters.
void launch_mass(const AttendParams& params, const MassItem* items, int n_items, int64_t rows, bool prompt_class, simt::Stream stream);

// first_bad takes the least index of a token that cannot be stored.
void launch_store(const StoreParams& params, unsigned long long* first_bad, simt::Stream stream);

struct QuantizeJob {
    const std::byte* window;
    std::byte* codes;
};
void launch_quantize(const LayerFormat& format, const QuantizeJob* jobs, int n_jobs, simt::Stream stream);

void launch_finish(const LayerFormat& format, const FinishParams* rows, int64_t n_rows, simt::Stream stream);

}  // namespace kvc::cuda
