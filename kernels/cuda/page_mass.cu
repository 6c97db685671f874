#include "kernels/cuda/page_mass.cuh"

namespace kvc::cuda {

void launch_page_mass(int64_t group, const PageMassJob* jobs, int n_jobs, int64_t most_runs, simt::Stream stream) {
    simt::launch(count_pages, int(ceil_div(most_runs, warps)), n_jobs, threads, stream, jobs, group);
}

}  // namespace kvc::cuda
