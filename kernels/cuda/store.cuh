// Tokens into a 16-bit record: to f32, rotated where the codec says so, checked, rounded. One warp a token.
// Reads and writes each token once: bound by memory, or by the launch when there are few.
#pragma once
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layout.cuh"
#include "kernels/cuda/query_tile.cuh"
#include "kernels/cuda/rotation.cuh"

namespace kvc::cuda {

// How one part (keys or values) of all jobs of a launch is stored.
struct StorePart {
    int64_t stride;  // of the caller's tokens, elements
    int dim;
    bool rotate;
};

struct StoreArgs {
    StorePart k, v;
    Dtype dtype;
    bool saturate;
    bool bf16;             // what is stored; otherwise fp16
    const StoreJob* jobs;  // one for each blockIdx.y
};

KVC_DEVICE float load_number_of(const void* p, Dtype dtype, int64_t i) {
    return dtype == Dtype::f32   ? load_number<Dtype::f32>(p, i)
           : dtype == Dtype::f16 ? load_number<Dtype::f16>(p, i)
                                 : load_number<Dtype::bf16>(p, i);
}

// Whether the lane's numbers are all at most (or, if strict, below) the limit; a NaN is not.
KVC_DEVICE bool lane_within(const SharedRow& row, int dim, float limit, bool strict) {
    bool within = true;
    for (int i = simt::lane(); i < dim; i += 32) {
        const float size = row.x[i] < 0 ? -row.x[i] : row.x[i];
        within = within && (strict ? size < limit : size <= limit);
    }
    return within;
}

KVC_DEVICE bool warp_within(const SharedRow& row, int dim, float limit, bool strict) {
    return !simt::any(!lane_within(row, dim, limit, strict));
}

// Rounds row `token` of x into its 16 bits; false, for all lanes, if it holds a number that they cannot. The range is checked after
// rotation.
KVC_DEVICE bool store_row(const StoreArgs& args, const StorePart& part, const void* x, int64_t token, std::byte* rows, SharedRow* row) {
    constexpr float largest_float = 0x1.fffffep127f;
    const float largest = args.bf16 ? 0x1.fep127f : 65504.0f;
    const float rounds_to_infinity = args.bf16 ? 0x1.ffp127f : 65520.0f;
    for (int i = simt::lane(); i < part.dim; i += 32) {
        row->x[i] = load_number_of(x, args.dtype, token * part.stride + i);
    }
    simt::sync_warp();
    if (!warp_within(*row, part.dim, largest_float, false)) {
        return false;
    }
    if (part.rotate) {
        rotate_row(row, part.dim);
    }
    // Sums of the rotation may be infinite, but never NaN unless two infinities meet.
    const bool clamp =
        args.saturate && !warp_within(*row, part.dim, largest, false) && warp_within(*row, part.dim, simt::infinity(), false);
    if (!clamp && !warp_within(*row, part.dim, rounds_to_infinity, true)) {
        return false;
    }
    auto* const out = reinterpret_cast<uint16_t*>(rows) + token * part.dim;
    for (int i = simt::lane(); i < part.dim; i += 32) {
        const float number = row->x[i];
        const float stored = !clamp ? number : number > largest ? largest : number < -largest ? -largest : number;
        out[i] = args.bf16 ? uint16_t(simt::pack_bfloats(stored, 0.0f)) : simt::float_to_half(stored);
    }
    simt::sync_warp();
    return true;
}

// Says which token it is. Its keys become NaN, so that whoever sees it before the host hears of it sees NaN and not what lay there.
KVC_DEVICE void refuse_token(const StoreJob& job, int64_t token, int k_dim) {
    constexpr uint16_t nan = 0x7fc0;  // of both types
    for (int i = simt::lane(); i < k_dim; i += 32) {
        reinterpret_cast<uint16_t*>(job.keys)[token * k_dim + i] = nan;
    }
    if (simt::lane() == 0) {
        simt::atomic_min(job.first_bad, static_cast<unsigned long long>(job.first_token + token));
    }
}

KVC_KERNEL(threads, 1) store_tokens(StoreArgs args) {
    struct Rows {
        SharedRow row[warps];
    };
    KVC_SHARED(Rows, shared);
    const StoreJob job = args.jobs[simt::block_y()];
    const int64_t token = int64_t{simt::block_x()} * warps + simt::warp();
    if (token >= job.tokens) {
        return;
    }
    SharedRow* const row = &shared.row[simt::warp()];
    const bool stored = store_row(args, args.k, job.k, token, job.keys, row) && store_row(args, args.v, job.v, token, job.values, row);
    if (!stored) {
        refuse_token(job, token, args.k.dim);
    }
}

}  // namespace kvc::cuda
