#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/turn.cuh"

namespace kvc::cuda {

struct TurnArgs {
    Rope rope;  // frequencies in the device's memory
    Dtype dtype;
    int64_t stride, out_stride;  // elements
    int dim;
    const TurnJob* jobs;  // one for each blockIdx.y
};

// One warp a row.
KVC_KERNEL(threads, 1) turn_rows(TurnArgs args) {
    const TurnJob& job = args.jobs[simt::block_y()];
    const int64_t row = int64_t{simt::block_x()} * warps + simt::warp();
    if (row >= job.rows) {
        return;
    }
    const std::byte* const q = static_cast<const std::byte*>(job.q) + row * args.stride * (args.dtype == Dtype::f32 ? 4 : 2);
    for (int c = simt::lane(); c < args.dim; c += 32) {
        const TurnPair pair = pair_of(args.rope, c);
        double x = load_any(args.dtype, q, c);
        if (pair.frequency >= 0) {
            const Angle angle = angle_of(-double(job.gap) * args.rope.frequencies[pair.frequency]);
            const double other = load_any(args.dtype, q, pair.other);
            x = simt::fma(x, angle.cosine, pair.second ? other * angle.sine : -(other * angle.sine));
        }
        job.out[row * args.out_stride + c] = float(x);
    }
}

void launch_turn_queries(const Rope& rope, Dtype dtype, int64_t stride, int dim, int64_t out_stride, const TurnJob* jobs, int n_jobs,
                         int64_t most_rows, simt::Stream stream) {
    const TurnArgs args{rope, dtype, stride, out_stride, dim, jobs};
    simt::launch(turn_rows, int(ceil_div(most_rows, warps)), n_jobs, threads, stream, args);
}

}  // namespace kvc::cuda
