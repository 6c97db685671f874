// What the warps of a block found, merged in a fixed order and written as an item's states.
#pragma once
#include "kernels/cuda/page_run.cuh"

namespace kvc::cuda {

template <int VD>
struct Merge {
    float o[warps][tile_rows][VD];
    float most[warps][tile_rows];
    float sum[warps][tile_rows];
};

// Leaves the warp's rows in shared memory, relative to their largest logit.
template <PageKind kind, int VD>
KVC_DEVICE void leave_state(const WarpState<VD>& state, Merge<VD>* merge) {
    const int row = simt::lane() / 4, quad = simt::lane() % 4, warp = simt::warp();
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        float sum = state.sum[column];
        KVC_UNROLL
        for (int distance = 4; distance < 32; distance *= 2) {
            sum += simt::shuffle_xor(sum, distance);
        }
        const bool empty = state.most[column] == -simt::infinity();
        const float factor = empty ? 0.0f : simt::exp2(state.reference[column] - state.most[column]);
        if (row == 0) {
            // The maximum passes over logits that are no numbers; their sum does not.
            merge->most[warp][2 * quad + column] = sum == sum ? state.most[column] : sum;
            // Divided by what a token of the largest logit weighs here: a lone one has a sum of exactly 1, and so all of the mass.
            merge->sum[warp][2 * quad + column] = empty ? 0.0f : sum / simt::exp2(state.most[column] - state.reference[column]);
        }
        KVC_UNROLL
        for (int c = 0; c < VD / 16; c++) {
            float* const o = merge->o[warp][2 * quad + column];
            constexpr int widest = widest_run(coding<kind>.meta.v_groups);
            o[value_channel(VD, c, row, 0, widest)] = state.o[c][column] * factor * (1 / output_unit);
            o[value_channel(VD, c, row, 1, widest)] = state.o[c][2 + column] * factor * (1 / output_unit);
        }
    }
}

// Each warp writes the rows of its number, of its number plus `warps`, and so on.
template <int VD>
KVC_DEVICE void write_states(const AttendArgs& args, const ItemRows& rows, const Merge<VD>& merge) {
    const AttendItem& item = *rows.item;
    for (int row = simt::warp(); row < tile_rows; row += warps) {
        const int group = int(args.group), token = (rows.first_row + row) / group, head = (rows.first_row + row) % group;
        if (token >= item.tokens) {
            return;
        }
        float most = merge.most[0][row];
        KVC_UNROLL
        for (int w = 1; w < warps; w++) {
            most = larger_or_nan(most, merge.most[w][row]);
        }
        float factor[warps], sum = 0.0f;
        KVC_UNROLL
        for (int w = 0; w < warps; w++) {
            factor[w] = merge.most[w][row] == -simt::infinity() ? 0.0f : simt::exp2(merge.most[w][row] - most);
            sum += factor[w] * merge.sum[w][row];
        }
        float* const state = item.state + (token * item.state_token_stride + head) * (VD + 2);
        KVC_UNROLL
        for (int channel = simt::lane(); channel < VD; channel += 32) {
            float o = 0.0f;
            KVC_UNROLL
            for (int w = 0; w < warps; w++) {
                o += factor[w] * merge.o[w][row][channel];
            }
            state[channel] = o;
        }
        if (simt::lane() < 2) {
            state[VD + simt::lane()] = simt::lane() == 0 ? most * ln_2 : sum;
        }
    }
}

}  // namespace kvc::cuda
