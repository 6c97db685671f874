// Numbers of tokens for policies: bits are those of the host, so it is compiled with -fmad=false.
#include <cmath>

#include "kernels/cuda/measure.cuh"

#include "kernels/cuda/match.cuh"

namespace kvc::cuda {

void launch_measure(const LayerFormat& f, KeyStatistic statistic, const MeasureJob* jobs, int n_jobs, int64_t most_tokens,
                    simt::Stream stream) {
    const MeasureArgs args{jobs, statistic, f.k_dim, f.codec.k.rotate, 1 / std::sqrt(double(f.k_dim))};
    const int runs = int(runs_of(most_tokens));
    simt::launch(measure_keys, runs, n_jobs, threads, stream, args);
    if (statistic == KeyStatistic::alignment) {
        simt::launch(sum_runs, 1, n_jobs, threads, stream, args);
        simt::launch(align_keys, runs, n_jobs, threads, stream, args);
    } else if (statistic == KeyStatistic::similarity) {
        simt::launch(match_followers, int(ceil_div(most_tokens, match_keys_of_block)), n_jobs, threads, stream, args);
    }
}

void launch_measure_values(const LayerFormat& f, const MeasureJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream) {
    const MeasureArgs args{jobs, KeyStatistic::none, f.v_dim, f.codec.v.rotate, 0.0};
    simt::launch(measure_values, int(runs_of(most_tokens)), n_jobs, threads, stream, args);
}

}  // namespace kvc::cuda
