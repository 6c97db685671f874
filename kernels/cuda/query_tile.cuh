// Eight query rows in the B operand's order, lifted into the range where fp16 is finest.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cuda/layout.cuh"

namespace kvc::cuda {

// What a launch of the attend kernel reads; all pointers are the device's.
struct AttendArgs {
    std::byte* const* slabs;
    int64_t code_bytes, window_bytes, sink_bytes;
    Dtype q_dtype;
    int64_t q_token_stride, q_head_stride;
    int64_t group;
    float scale, soft_cap;
    int64_t sliding_window, causal_offset;
    const AttendItem* items;  // one for each blockIdx.y
};

KVC_DEVICE const std::byte* record_address(const AttendArgs& args, RecordId id, int64_t record_bytes) {
    return args.slabs[id >> record_index_bits] + int64_t(id & ((1u << record_index_bits) - 1)) * record_bytes;
}

template <Dtype dtype>
KVC_DEVICE float load_number(const void* p, int64_t i) {
    if constexpr (dtype == Dtype::f32) {
        return static_cast<const float*>(p)[i];
    } else {
        const uint32_t bits = static_cast<const uint16_t*>(p)[i];
        return dtype == Dtype::f16 ? simt::half_to_float(bits) : simt::float_of_bits(bits << 16);
    }
}

// 2^n for a normal result.
KVC_DEVICE float power_of_two(int n) { return simt::float_of_bits(uint32_t(n + 127) << 23); }

constexpr float log2_e = 1.44269504f;
constexpr float ln_2 = 0.693147181f;

// Scores of 4-bit keys come out of the tensor cores in units of 2^-48 (fp16 subnormals times fp16 subnormals).
constexpr int score_unit_log2 = -48;
constexpr float score_unit = 0x1p-48f;

template <int KD>
struct QueryTile {
    uint32_t q[KD / 16][2];  // the row of lane / 4, times a power of two that brings its largest number to 2^14 .. 2^15
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
    const int64_t token = row / args.group, head = row % args.group;
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

// The power of two that brings the largest number of a row to 2^14 .. 2^15.
// Rows of numbers beyond 2^75 become infinite here; no softmax can tell their logits apart.
KVC_DEVICE int lift_of(float largest) {
    const int lift = 14 + 127 - int(simt::bits_of_float(largest) >> 23);
    return lift < -60 ? -60 : lift > 100 ? 100 : lift;
}

template <int KD>
KVC_DEVICE void load_queries(const AttendArgs& args, const AttendItem& item, int first_row, QueryTile<KD>* tile) {
    float x[KD / 16][4];
    const float largest = load_row_of_lane<KD>(args, item, first_row, x);
    const int lift = lift_of(largest);
    const float lifted = power_of_two(lift);
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        tile->q[k][0] = simt::pack_halves(x[k][0] * lifted, x[k][1] * lifted);
        tile->q[k][1] = simt::pack_halves(x[k][2] * lifted, x[k][3] * lifted);
    }
    const float to_log2 = args.scale * log2_e * power_of_two(-score_unit_log2 - lift);
    // -128 * 2^-24, two of them: summed over the row as the products with stored zero points are.
    constexpr uint32_t minus_bias = (0x8000u | zero_point_bias) * 0x10001u;
    float base[4] = {};
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        simt::mma(base, minus_bias, minus_bias, minus_bias, minus_bias, tile->q[k][0], tile->q[k][1]);
    }
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        tile->to_log2[column] = simt::shuffle(to_log2, 4 * (2 * (simt::lane() % 4) + column));
        tile->zero_base[column] = base[column];
    }
}

}  // namespace kvc::cuda
