#include "kernels/cuda/mass_launch.cuh"

namespace kvc::cuda {

void launch_mass_of_rows(PageKind kind, const MassLaunch& launch) {
    if (kind == PageKind::rows) {
        launch_mass_kind<PageKind::rows>(launch);
    } else if (kind == PageKind::bf16_rows) {
        launch_mass_kind<PageKind::bf16_rows>(launch);
    }
}

}  // namespace kvc::cuda
