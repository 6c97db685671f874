#include "kernels/cuda/attend_args.cuh"
#include "kernels/cuda/attend_launch.cuh"
#include "kernels/cuda/supported.h"

namespace kvc::cuda {
namespace {

template <PageKind kind>
void launch_if(PageKind wanted, const AttendLaunch& launch) {
    if (wanted == kind) {
        launch_kind<kind>(launch);
    }
}

}  // namespace

void launch_attend(const AttendParams& p, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    if (p.rope) {
        launch_general(p, items, n_items, rows, stream);
        return;
    }
    const AttendLaunch launch{f, attend_args(p, items), int(ceil_div(rows, tile_rows)), n_items, stream};
    const PageKind kind = *kind_of(f);
#define KVC_CUDA_LAUNCH_KIND(name, ...) launch_if<PageKind::name>(kind, launch);
    KVC_CUDA_CODED_KINDS(KVC_CUDA_LAUNCH_KIND)
#undef KVC_CUDA_LAUNCH_KIND
    launch_if<PageKind::rows>(kind, launch);
    launch_if<PageKind::bf16_rows>(kind, launch);
}

}  // namespace kvc::cuda
