#include "kernels/cuda/mass_launch.cuh"

namespace kvc::cuda {

void launch_mass_of_groups(PageKind kind, const MassLaunch& launch) {
#define KVC_CUDA_LAUNCH_KIND(name, k_bits, v_bits, k_group, k_meta_bits, v_group) \
    if constexpr (k_meta_bits == 16) {                                            \
        if (kind == PageKind::name) {                                             \
            launch_mass_kind<PageKind::name>(launch);                             \
        }                                                                         \
    }
    KVC_CUDA_CODED_KINDS(KVC_CUDA_LAUNCH_KIND)
#undef KVC_CUDA_LAUNCH_KIND
}

}  // namespace kvc::cuda
