// Where the keys and values of a run lie in its record.
#pragma once
#include "kernels/cpu/expand.h"
#include "kernels/cpu/runs.h"

namespace kvc::simd {
namespace {

struct PageView {
    PartView k, v;
};

// Keys of a sink record lie as [token][dim]; they are turned into sink_tile [4][k_dim][16] here.
inline PageView view_page(const LayerFormat& f, const Run& run, float* sink_tile) {
    const Element half = f.bf16_window ? Element::bf16 : Element::f16;
    const int64_t ahead = run.next - run.record;
    PageView page{{&f.codec.k, &f.k, run.record, run.record, f.k_dim, page_tokens, ahead, false, half},
                  {&f.codec.v, &f.v, run.record, run.record + window_v_offset(f), f.v_dim, page_tokens, ahead, false, half}};
    if (run.form == KernelTable::Form::codes && !f.lossless) {
        page.k.coded = !is_16_bit(f.codec.k.type);
        page.k.plane = run.record + f.k.codes;
        page.v.coded = !is_16_bit(f.codec.v.type);
        page.v.plane = run.record + f.v.codes;
    }
    if (run.form == KernelTable::Form::sinks) {
        expand_key_rows(run.record, half, f.codec.sinks, f.k_dim, sink_tile);
        page.k.plane = reinterpret_cast<const std::byte*>(sink_tile);
        page.k.element = Element::f32;
        page.k.capacity = page.v.capacity = f.codec.sinks;
        page.k.ahead = page.v.ahead = 0;
        page.v.plane = run.record + sink_v_offset(f);
    }
    return page;
}

}  // namespace
}  // namespace kvc::simd
