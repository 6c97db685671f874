// From a format to an instantiation of the mass kernel of the decode class. Kinds of pages are spread over translation units.
#pragma once
#include "kernels/cuda/mass.cuh"
#include "kernels/cuda/prompt_launch.cuh"

namespace kvc::cuda {

struct MassLaunch {
    const LayerFormat& format;
    AttendArgs args;
    const MassItem* items;
    int blocks, n_items;
    simt::Stream stream;
};

template <PageKind kind, int KD, int VD>
void launch_mass_dims(const MassLaunch& launch) {
    if constexpr (is_instantiated(kind, KD, VD)) {
        if (launch.format.k_dim == KD && launch.format.v_dim == VD) {
            simt::launch(mass_decode<KD, VD, kind>, launch.blocks, launch.n_items, threads, launch.stream, launch.args, launch.items);
        }
    }
}

template <PageKind kind>
void launch_mass_kind(const MassLaunch& launch) {
#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_mass_dims<kind, KD, VD>(launch);
    KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)
#undef KVC_CUDA_LAUNCH_DIMS
}

// Each takes the kinds that its unit knows, and nothing else.
void launch_mass_of_pairs(PageKind kind, const MassLaunch& launch);
void launch_mass_of_groups(PageKind kind, const MassLaunch& launch);
void launch_mass_of_rows(PageKind kind, const MassLaunch& launch);

}  // namespace kvc::cuda
