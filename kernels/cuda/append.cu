// Kernels whose bits are those of every other backend, and what undoes their rotation: compiled with -fmad=false.
#include "kernels/cuda/any_kernel.h"
#include "kernels/cuda/finish.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/part_grid.h"
#include "kernels/cuda/quantize.cuh"
#include "kernels/cuda/store.cuh"

namespace kvc::cuda {

const void* any_kernel() { return reinterpret_cast<const void*>(&store_tokens); }

StoreJob store_job(const StoreParams& p, unsigned long long* first_bad) {
    const LayerFormat& f = *p.format;
    const int64_t capacity = p.sinks ? f.codec.sinks : page_tokens;
    std::byte* const keys = p.record + p.first_slot * f.k_dim * 2;
    std::byte* const values = p.record + (capacity * f.k_dim + p.first_slot * f.v_dim) * 2;
    return {p.k, p.v, keys, values, p.tokens, p.first_token, first_bad};
}

void launch_store(const StoreParams& p, const StoreJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const StoreArgs args{
        {p.k_stride, f.k_dim, f.codec.k.rotate}, {p.v_stride, f.v_dim, f.codec.v.rotate}, p.dtype, p.saturate, f.bf16_window, jobs};
    simt::launch(store_tokens, int(ceil_div(most_tokens, warps)), n_jobs, threads, stream, args);
}

void launch_quantize(const LayerFormat& f, const QuantizeJob* jobs, int n_jobs, simt::Stream stream) {
    const QuantizeArgs args{jobs, grid_of(f.codec.k, f.k_dim), grid_of(f.codec.v, f.v_dim), f.k, f.v, metadata_of(f)};
    simt::launch(quantize_page, n_jobs, 1, threads, stream, args);
}

void launch_finish(const FinishCall& c, const FinishTile* tiles, int n_tiles, int64_t most_tokens, simt::Stream stream) {
    const LayerFormat& f = *c.format;
    const FinishArgs args{tiles, c.q_heads,          c.sink_logits,     f.v_dim,   f.codec.v.rotate, c.out_dtype,
                          c.out, c.out_token_stride, c.out_head_stride, c.out_lse, c.full_lse};
    simt::launch(finish_rows, int(ceil_div(most_tokens * c.q_heads, warps)), n_tiles, threads, stream, args);
}

}  // namespace kvc::cuda
