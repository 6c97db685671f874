#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

template <int KD, int VD, PageKind kind>
void launch_kind(const AttendArgs& args, int64_t sinks, bool capped, int blocks, int n_items, simt::Stream stream) {
    if (capped) {
        simt::launch(attend_decode<KD, VD, kind, true>, blocks, n_items, threads, stream, args, sinks);
    } else {
        simt::launch(attend_decode<KD, VD, kind, false>, blocks, n_items, threads, stream, args, sinks);
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
