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

constexpr int shared_of_runtime = 1024;  // in each block

// Two slots, one on its way while the other is read: more were slower. One, where two would cost the second block, which is worth more.
// static_bytes: of shared memory beside the ring; most: what a multiprocessor has.
inline RingShape shape_ring(int slot_bytes, int static_bytes, int most) {
    const RingShape two{2, slot_bytes}, one{1, slot_bytes};
    const auto fits = [static_bytes, most](const RingShape& ring, int blocks) {
        return (ring.bytes() + static_bytes + shared_of_runtime) * blocks <= most;
    };
    return fits(two, resident_blocks) || (!fits(one, resident_blocks) && fits(two, 1)) ? two : one;
}

template <PageKind kind, int KD, int VD>
void launch_dims(const AttendLaunch& launch) {
    if constexpr (is_instantiated(kind, KD, VD)) {
        const LayerFormat& f = launch.format;
        if (f.k_dim == KD && f.v_dim == VD) {
            const auto kernel = attend_decode<KD, VD, kind>;
            RingShape ring;
            if (const int most = simt::shared_for_bulk_copies(kernel, launch.stream); most > 0) {
                const int slot_bytes = is_rows(kind) ? 16 * (KD + VD) * 2 : int(f.code_bytes);
                ring = shape_ring(slot_bytes, kind == PageKind::bf16_rows ? int(sizeof(QueryRest<KD>)) : 0, most);
            }
            const int shared = ring.bytes() > int(sizeof(Merge<VD>)) ? ring.bytes() : int(sizeof(Merge<VD>));
            const simt::Grid grid{launch.blocks, launch.items, threads, shared};
            simt::launch(kernel, grid, launch.stream, launch.args, f.codec.sinks, ring);
        }
    }
}

// Every kind's is in its own unit.
template <PageKind kind>
void launch_kind(const AttendLaunch& launch);
#define KVC_CUDA_DECLARE_LAUNCH(name, k_bits, v_bits, grouped) \
    template <>                                                \
    void launch_kind<PageKind::name>(const AttendLaunch& launch);
KVC_CUDA_CODED_KINDS(KVC_CUDA_DECLARE_LAUNCH)
KVC_CUDA_DECLARE_LAUNCH(rows, 16, 16, false)
KVC_CUDA_DECLARE_LAUNCH(bf16_rows, 16, 16, false)
#undef KVC_CUDA_DECLARE_LAUNCH

#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<kind, KD, VD>(launch);
#define KVC_CUDA_DEFINE_LAUNCH(name)                               \
    template <>                                                    \
    void launch_kind<PageKind::name>(const AttendLaunch& launch) { \
        constexpr PageKind kind = PageKind::name;                  \
        KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)                   \
    }

}  // namespace kvc::cuda
