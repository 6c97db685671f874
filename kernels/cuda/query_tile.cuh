// Eight query rows in the B operand's order, lifted into the range where fp16 is finest.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cuda/layout.cuh"

namespace kvc::cuda {

constexpr float log2_e = 1.44269504f;
constexpr float ln_2 = 0.693147181f;

// A soft cap of logits over ln 2, and what tanh's exponent is of them. Divided by the host: a kernel divides before it knows whether.
struct SoftCap {
    float log2 = 0.0f, slope = 0.0f;  // 0: none
};

// What a launch of the attend kernel reads; all pointers are the device's.
struct AttendArgs {
    std::byte* const* slabs;
    int64_t code_bytes, window_bytes, sink_bytes;
    Dtype q_dtype;
    int64_t q_token_stride, q_head_stride;
    int64_t group;
    float scale;
    SoftCap soft_cap;
    int64_t sliding_window, causal_offset;
    int v_twice_middle;       // of values without zero points: twice the code of 0
    const AttendItem* items;  // one for each blockIdx.y
};

KVC_DEVICE const std::byte* record_address(const AttendArgs& args, RecordId id, int64_t record_bytes) {
    return args.slabs[id >> record_index_bits] + int64_t(id & ((1u << record_index_bits) - 1)) * record_bytes;
}

template <Dtype dtype>
KVC_DEVICE float load_number(const void* p, int64_t i) {
    if constexpr (dtype == Dtype::f32) {
        simt::require_aligned(static_cast<const float*>(p));
        return static_cast<const float*>(p)[i];
    } else {
        simt::require_aligned(static_cast<const uint16_t*>(p));
        const uint32_t bits = static_cast<const uint16_t*>(p)[i];
        return dtype == Dtype::f16 ? simt::half_to_float(bits) : simt::float_of_bits(bits << 16);
    }
}

// 2^n for a normal result.
KVC_DEVICE float power_of_two(int n) { return simt::float_of_bits(uint32_t(n + 127) << 23); }

// Codes are multiplied as fp16 subnormals, in this unit.
constexpr float code_unit = 0x1p-24f;

// Scores leave the tensor cores in units of this power of two. 8-bit scales are subnormals, too; those in fp16 are numbers as they are.
template <PageKind kind>
constexpr int score_unit_log2 = holds_rows<kind>             ? 0
                                : coding<kind>.meta.k_halves ? -24
                                                             : -48;
template <PageKind kind>
constexpr float score_unit = holds_rows<kind>             ? 1.0f
                             : coding<kind>.meta.k_halves ? code_unit
                                                          : code_unit * code_unit;

// Queries are lifted by a power of two, so that the largest number of a row is at least 2^this and below its double. Times an 8-bit scale
// it stays a normal fp16 number; times one in fp16 it may not exceed 65504. bf16 has room anyway.
template <PageKind kind>
constexpr int query_lift_log2 = kind == PageKind::bf16_rows || coding<kind>.meta.k_halves ? -1 : 14;

// What bf16 leaves over of eight query rows, in shared memory: registers hold one of the two already.
template <int KD>
struct QueryRest {
    simt::Words2 of[KD / 16][32];  // [fragment][lane]
};

template <int KD, PageKind kind>
struct QueryTile {
    static constexpr bool in_two = kind == PageKind::bf16_rows;  // as a sum of two bf16 numbers
    uint32_t q[KD / 16][2];                                      // the row of lane / 4, lifted; fp16, or bf16
    QueryRest<KD>* rest;
    // Of the two rows whose scores this lane accumulates, 2 * quad and 2 * quad + 1:
    float to_log2[2];    // from scores in their unit to logits over ln 2
    float zero_base[2];  // takes the bias of the stored zero points out of their product
};

// The numbers of one query row in fragment order; the largest magnitude of those.
template <int KD, Dtype dtype>
KVC_DEVICE float load_row(const void* q, int64_t start, float (&x)[KD / 16][4]) {
    float largest = 0.0f;
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        KVC_UNROLL
        for (int e = 0; e < 4; e++) {
            x[k][e] = load_number<dtype>(q, start + key_channel(KD, k, simt::lane() % 4, e));
            largest = simt::maximum(largest, x[k][e] < 0 ? -x[k][e] : x[k][e]);
        }
    }
    return largest;
}

// The row that lane / 4 stands for; zeros for one that the item does not have.
template <int KD>
KVC_DEVICE float load_row_of_lane(const AttendArgs& args, const AttendItem& item, int first_row, float (&x)[KD / 16][4]) {
    const int row = first_row + simt::lane() / 4;
    const int group = int(args.group), token = row / group, head = row % group;
    const int64_t start = token * args.q_token_stride + head * args.q_head_stride;
    float largest = 0.0f;
    if (token >= item.tokens) {
        KVC_UNROLL
        for (int k = 0; k < KD / 16; k++) {
            x[k][0] = x[k][1] = x[k][2] = x[k][3] = 0.0f;
        }
    } else if (args.q_dtype == Dtype::f32) {
        largest = load_row<KD, Dtype::f32>(item.q, start, x);
    } else if (args.q_dtype == Dtype::f16) {
        largest = load_row<KD, Dtype::f16>(item.q, start, x);
    } else {
        largest = load_row<KD, Dtype::bf16>(item.q, start, x);
    }
    largest = simt::maximum(largest, simt::shuffle_xor(largest, 1));
    return simt::maximum(largest, simt::shuffle_xor(largest, 2));
}

// Two numbers as the sum of two pairs of bf16: 16 bits of each.
struct SplitPair {
    uint32_t whole, rest;
};
KVC_DEVICE SplitPair split_bfloats(float low, float high) {
    const uint32_t whole = simt::pack_bfloats(low, high);
    return {whole, simt::pack_bfloats(low - simt::float_of_bits(whole << 16), high - simt::float_of_bits(whole & 0xffff0000u))};
}

// Minus the bias of stored zero points, 128 * 2^-24, times q: summed over the row as the products with zero points are.
template <int KD, PageKind kind>
KVC_DEVICE void sum_zero_base(QueryTile<KD, kind>* tile) {
    constexpr uint32_t minus_bias = (0x8000u | zero_point_bias) * 0x10001u;
    float base[4] = {};
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        simt::mma(base, minus_bias, minus_bias, minus_bias, minus_bias, tile->q[k][0], tile->q[k][1]);
    }
    tile->zero_base[0] = base[0];
    tile->zero_base[1] = base[1];
}

// The power of two that brings the largest number of a row to 2^log2 or more, and below its double.
// Rows of numbers beyond 2^75 may become infinite; no softmax can tell their logits apart.
KVC_DEVICE int lift_to(int log2, float largest) {
    const int lift = log2 + 127 - int(simt::bits_of_float(largest) >> 23);
    return lift < -60 ? -60 : lift > 100 ? 100 : lift;
}

template <int KD, PageKind kind>
KVC_DEVICE void load_queries(const AttendArgs& args, const AttendItem& item, int first_row, QueryTile<KD, kind>* tile) {
    float x[KD / 16][4];
    const float largest = load_row_of_lane<KD>(args, item, first_row, x);
    const int lift = lift_to(query_lift_log2<kind>, largest);
    const float lifted = power_of_two(lift);
    if constexpr (QueryTile<KD, kind>::in_two) {
        KVC_SHARED(QueryRest<KD>, rest);
        tile->rest = &rest;
    }
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        KVC_UNROLL
        for (int i = 0; i < 2; i++) {
            const float low = x[k][2 * i] * lifted, high = x[k][2 * i + 1] * lifted;
            if constexpr (QueryTile<KD, kind>::in_two) {
                const SplitPair pair = split_bfloats(low, high);
                tile->q[k][i] = pair.whole;
                tile->rest->of[k][simt::lane()].w[i] = pair.rest;  // every warp writes the same
            } else {
                tile->q[k][i] = simt::pack_halves(low, high);
            }
        }
    }
    if constexpr (QueryTile<KD, kind>::in_two) {
        simt::sync_block();
    }
    const float to_log2 = args.scale * log2_e * power_of_two(-score_unit_log2<kind> - lift);
    tile->to_log2[0] = simt::shuffle(to_log2, 4 * (2 * (simt::lane() % 4)));
    tile->to_log2[1] = simt::shuffle(to_log2, 4 * (2 * (simt::lane() % 4) + 1));
    if constexpr (!holds_rows<kind> && !coding<kind>.meta.k_halves) {
        sum_zero_base(tile);
    }
}

}  // namespace kvc::cuda
