// The kernel table of a SIMD target; its lanes_<target>.h comes first.
#pragma once
#include "kernels/cpu/attend_body.h"
#include "kernels/cpu/decode.h"
#include "kernels/cpu/finish_body.h"
#include "kernels/cpu/mass.h"
#include "kernels/cpu/page_body.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/store.h"
#include "kernels/cpu/targets.h"

namespace kvc::simd {
namespace {

int64_t scratch_bytes(const LayerFormat& format, int64_t group, int64_t tokens) {
    Scratch measured;
    return std::max(place_scratch(format, group * tokens, nullptr, &measured) + 64, attend_scratch_bytes(format, group, tokens));
}

inline Scratch scratch_at(const LayerFormat& format, int64_t rows, std::byte* memory) {
    Scratch scratch;
    memory += -reinterpret_cast<uintptr_t>(memory) & 63;
    place_scratch(format, rows, memory, &scratch);
    return scratch;
}

// Rows whose query was no number get no number, if they saw a token at all.
inline void spread_broken(const AttendParams& params, const AttendItem& item, const Scratch& scratch) {
    const int64_t v_dim = params.format->v_dim;
    for (int64_t t = 0; t < item.tokens; ++t) {
        for (int64_t g = 0; g < params.group; ++g) {
            float* state = item.state + (t * item.state_token_stride + g) * (v_dim + 2);
            if (scratch.broken[t * params.group + g] && state[v_dim] != minus_infinity) {
                for (int64_t i = 0; i < v_dim + 2; ++i) {
                    state[i] = std::numeric_limits<float>::quiet_NaN();
                }
            }
        }
    }
}

void attend(const AttendParams& params, const AttendItem& item, std::byte* memory) {
    if (params.rope) {
        return attend_item(params, item, memory);  // keys before RoPE are dequantized and turned: the witness's way, vectorized
    }
    const Scratch scratch = scratch_at(*params.format, item.tokens * params.group, memory);
    prepare_queries(params, item, scratch);
    for (int64_t t = 0; t < item.tokens; ++t) {
        for (int64_t g = 0; g < params.group; ++g) {
            clear_state(item.state + (t * item.state_token_stride + g) * (params.format->v_dim + 2), params.format->v_dim);
        }
    }
    if (item.prompt_class) {
        attend_prompt(params, item, scratch);
    } else {
        attend_decode(params, item, scratch);
    }
    spread_broken(params, item, scratch);
}

void mass(const AttendParams& params, const MassItem& item, std::byte* memory) {
    if (params.rope) {
        return mass_item(params, item, memory);
    }
    const Scratch scratch = scratch_at(*params.format, item.item.tokens * params.group, memory);
    prepare_queries(params, item.item, scratch);
    if (item.item.prompt_class) {
        mass_prompt(params, item, scratch);
    } else {
        mass_decode(params, item, scratch);
    }
}

const char* unsupported(const LayerFormat& format) {
    const bool known = has_kernels_for(format.codec.k.type) && has_kernels_for(format.codec.v.type);
    return known ? nullptr : "codes of a width that it has no kernels for";
}

constexpr KernelTable table_named(const char* name) {
    return {
        .name = name,
        .scratch_bytes = scratch_bytes,
        .store = store_rows,
        .quantize = quantize_record,
        .read = read_page,
        .unpack = unpack_page,
        .pack = pack_page,
        .attend = attend,
        .mass = mass,
        .page_mass = page_mass_item,
        .finish = finish_row<rotate_vector>,
        .rotates_keys = true,
        .weighs_counts = true,
        .unsupported = unsupported,
    };
}

}  // namespace
}  // namespace kvc::simd
