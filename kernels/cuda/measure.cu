// Numbers of tokens for policies and for merging: bits are those of the host, so it is compiled with -fmad=false.
#include <cmath>

#include "kernels/cuda/match.cuh"
#include "kernels/cuda/means.cuh"
#include "kernels/cuda/measure.cuh"

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

void launch_lengths(const LayerFormat& f, const MeasureJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream) {
    const MeasureArgs args{jobs, KeyStatistic::none, f.k_dim, f.codec.k.rotate, 0.0};
    simt::launch(measure_keys, int(runs_of(most_tokens)), n_jobs, threads, stream, args);
}

void launch_measure_values(const LayerFormat& f, const MeasureJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream) {
    const MeasureArgs args{jobs, KeyStatistic::none, f.v_dim, f.codec.v.rotate, 0.0};
    simt::launch(measure_values, int(runs_of(most_tokens)), n_jobs, threads, stream, args);
}

void launch_match(const LayerFormat& f, const MatchJob* jobs, int n_jobs, int64_t most_leaving, simt::Stream stream) {
    const MatchArgs args{jobs, f.k_dim, f.codec.k.rotate};
    simt::launch(match_kept, int(ceil_div(most_leaving, match_keys_of_block)), n_jobs, threads, stream, args);
}

void launch_means(const LayerFormat& f, bool new_keys, const MeansJob* jobs, int n_jobs, int64_t most_folds, simt::Stream stream) {
    const MeansArgs args{jobs, f.k_dim, f.v_dim, f.codec.k.rotate, f.codec.v.rotate, new_keys};
    simt::launch(mean_rows, int(ceil_div(most_folds, warps)), n_jobs, threads, stream, args);
}

}  // namespace kvc::cuda
