// From the head dims of a format to an instantiation of the attend kernel. Each kind of pages is a translation unit of its own
// (attend_int4.cu and so on), because they take long to compile.
#pragma once
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {

struct AttendLaunch {
    const LayerFormat& format;
    AttendArgs args;
    int blocks, items;
    simt::Stream stream;
};

template <PageKind kind, int KD, int VD>
void launch_dims(const AttendLaunch& launch) {
    if constexpr (is_instantiated(kind, KD, VD)) {
        const LayerFormat& f = launch.format;
        if (f.k_dim == KD && f.v_dim == VD) {
            const auto kernel = attend_decode<KD, VD, kind>;
            const RingShape ring = decode_ring<kind, KD, VD>(simt::architecture_of(kernel, launch.stream));
            const int shared = ring.bytes() > int(sizeof(Merge<VD>)) ? ring.bytes() : int(sizeof(Merge<VD>));
            const simt::Grid grid{launch.blocks, launch.items, threads, shared};
            simt::launch(kernel, grid, launch.stream, launch.args, f.codec.sinks, ring);
        }
    }
}

// Every kind's is in its own unit.
template <PageKind kind>
void launch_kind(const AttendLaunch& launch);
#define KVC_CUDA_DECLARE_LAUNCH(name, ...) \
    template <>                            \
    void launch_kind<PageKind::name>(const AttendLaunch& launch);
KVC_CUDA_CODED_KINDS(KVC_CUDA_DECLARE_LAUNCH)
KVC_CUDA_DECLARE_LAUNCH(rows)
KVC_CUDA_DECLARE_LAUNCH(bf16_rows)
#undef KVC_CUDA_DECLARE_LAUNCH

#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<kind, KD, VD>(launch);
#define KVC_CUDA_DEFINE_LAUNCH(name)                               \
    template <>                                                    \
    void launch_kind<PageKind::name>(const AttendLaunch& launch) { \
        constexpr PageKind kind = PageKind::name;                  \
        KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)                   \
    }

}  // namespace kvc::cuda
