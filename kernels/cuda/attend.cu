#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

constexpr int shared_of_multiprocessor = 227 * 1024, shared_of_runtime = 1024;  // sm_90; the latter in each block

// As many slots as fit beside the other blocks, but two in any case, so that one is on its way while the other is read.
RingShape shape_ring(int slot_bytes, int resident) {
    const auto slots_of = [&](int blocks) {
        const RingShape none;
        return (shared_of_multiprocessor / blocks - shared_of_runtime - none.barrier_bytes()) / (warps * slot_bytes);
    };
    const int slots = slots_of(resident) >= 2 ? slots_of(resident) : slots_of(1) >= 2 ? 2 : 1;
    return {slots < ring_slots_max ? slots : ring_slots_max, slot_bytes};
}

template <int KD, int VD, PageKind kind, bool capped>
void launch_capped(const AttendArgs& args, int64_t sinks, int blocks, int n_items, simt::Stream stream) {
    const auto kernel = attend_decode<KD, VD, kind, capped>;
    RingShape ring;
    if (simt::compiled_with_bulk_copies(kernel, stream)) {
        ring = shape_ring(kind == PageKind::rows ? 16 * (KD + VD) * 2 : int(args.code_bytes), resident_blocks<kind, KD>);
    }
    const int shared = ring.bytes() > int(sizeof(Merge<VD>)) ? ring.bytes() : int(sizeof(Merge<VD>));
    simt::launch(kernel, simt::Grid{blocks, n_items, threads, shared}, stream, args, sinks, ring);
}

template <int KD, int VD, PageKind kind>
void launch_kind(const AttendArgs& args, int64_t sinks, bool capped, int blocks, int n_items, simt::Stream stream) {
    if (capped) {
        launch_capped<KD, VD, kind, true>(args, sinks, blocks, n_items, stream);
    } else {
        launch_capped<KD, VD, kind, false>(args, sinks, blocks, n_items, stream);
    }
}

template <int KD, int VD>
void launch_dims(const LayerFormat& f, const AttendArgs& args, bool capped, int blocks, int n_items, simt::Stream stream) {
    if (f.k_dim != KD || f.v_dim != VD) {
        return;
    }
    if (f.lossless) {
        launch_kind<KD, VD, PageKind::rows>(args, f.codec.sinks, capped, blocks, n_items, stream);
    } else {
        launch_kind<KD, VD, PageKind::int4>(args, f.codec.sinks, capped, blocks, n_items, stream);
    }
}

}  // namespace

void launch_attend(const AttendParams& p, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const AttendArgs args{p.arena.slabs,    f.code_bytes,    f.window_bytes, f.sink_bytes, p.q_dtype,
                          p.q_token_stride, p.q_head_stride, p.group,        p.scale,      p.soft_cap,
                          p.sliding_window, p.causal_offset, items};
    const int blocks = int(ceil_div(rows, tile_rows));
#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<KD, VD>(f, args, p.soft_cap > 0.0f, blocks, n_items, stream);
    KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)
#undef KVC_CUDA_LAUNCH_DIMS
}

}  // namespace kvc::cuda
