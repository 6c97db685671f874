// The query rows of a warp of the prompt kernels, as the A operand of mma.m16n8k16, and their running softmax.
//
// A warp has `tiles` tiles of 16 rows. x[m][j][i] of a lane is the score of row 16 m + lane / 4 + 8 (i / 2) and token
// 8 j + 2 (lane % 4) + i % 2 of a page, as a logit over ln 2. Nothing here mixes rows.
#pragma once
#include "kernels/cuda/page_tile.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// Sixteen bytes of (tile of rows, fragment of channels, lane).
template <int KD>
KVC_HOST_DEVICE constexpr int query_offset(int m, int k, int lane) {
    return ((m * (KD / 16) + k) * 32 + lane) * 16;
}

// The running softmax of a lane's two rows of a tile, which is used once for each page.
struct alignas(16) RowSums {
    float most[2];  // the largest x so far
    float sum[2];   // of this lane's tokens
};

template <int VD, int tiles>
struct RowsState {
    float o[tiles][VD / 8][4];  // columns: fragment c, lower channels at 2 c, upper ones at 2 c + 1
};

// The lane's sums of a tile of rows, from those of the first.
KVC_DEVICE RowSums* sums_of_tile(RowSums* at_lane, int m) { return at_lane + 32 * m; }

// in_fours: as results of products are (docs/design/cuda.md, 4).
template <bool in_fours, int VD, int tiles>
KVC_DEVICE void reset(RowSums* sums, RowsState<VD, tiles>* state) {
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        *sums_of_tile(sums, m) = {{-simt::infinity(), -simt::infinity()}, {0.0f, 0.0f}};
        KVC_UNROLL
        for (int c = 0; c < VD / 8; c++) {
            if (in_fours) {
                simt::zeros_of_mma(state->o[m][c]);
            } else {
                state->o[m][c][0] = state->o[m][c][1] = state->o[m][c][2] = state->o[m][c][3] = 0.0f;
            }
        }
    }
}

// What a row needs once for each page, and at the end, kept in shared memory.
struct RowFacts {
    Sight sight;
    int64_t state;  // which row of the item's states it is; -1: the item does not have it
    float slope;    // from products to logits over ln 2
};

KVC_DEVICE RowFacts facts_of(const AttendArgs& args, const AttendItem& item, int row, int lift) {
    const int64_t token = row / args.group, head = row % args.group;
    return {sight_of(args, item, row), token < item.tokens ? token * item.state_token_stride + head : -1,
            args.scale * log2_e * power_of_two(-lift)};
}

// Writes 16 rows for each of the warp's tiles, each lifted by a power of two, and their facts, to shared memory.
// load(first row, x): as load_row_of_lane.
template <int KD, int tiles, class Load>
KVC_DEVICE void load_query_rows(const AttendArgs& args, const AttendItem& item, int first_row, const Load& load, std::byte* queries,
                                RowFacts* facts) {
    KVC_NO_UNROLL
    for (int m = 0; m < tiles; m++) {
        TileWords words[KD / 16];
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            const int row = 16 * m + 8 * half;
            float x[KD / 16][4];
            const int lift = lift_to(14, load(first_row + row, x));
            const float lifted = power_of_two(lift);
            if (simt::lane() % 4 == 0) {
                const int at = row + simt::lane() / 4;
                facts[at] = facts_of(args, item, first_row + at, lift);
            }
            KVC_UNROLL
            for (int k = 0; k < KD / 16; k++) {
                words[k].w[half] = simt::pack_halves(x[k][0] * lifted, x[k][1] * lifted);
                words[k].w[2 + half] = simt::pack_halves(x[k][2] * lifted, x[k][3] * lifted);
            }
        }
        KVC_UNROLL
        for (int k = 0; k < KD / 16; k++) {
            *reinterpret_cast<TileWords*>(queries + query_offset<KD>(m, k, simt::lane())) = words[k];
        }
    }
    simt::sync_warp();  // the warp's own rows are whole from here on
}

// queries and keys: the lane's place in them. x = queries * keys of a whole page, times the rows' slopes and the unit of the page's numbers.
template <int KD, int tiles>
KVC_DEVICE void page_scores(int lane, const std::byte* queries, const std::byte* keys, const RowFacts* facts, float unit,
                            float (&x)[tiles][8][4]) {
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        KVC_UNROLL
        for (int j = 0; j < 8; j++) {
            x[m][j][0] = x[m][j][1] = x[m][j][2] = x[m][j][3] = 0.0f;
        }
    }
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        TileWords a[tiles];
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            a[m] = *reinterpret_cast<const TileWords*>(queries + query_offset<KD>(m, k, 0));
        }
        KVC_UNROLL
        for (int t = 0; t < 4; t++) {
            const TileWords b = load_tile(keys, k, t);
            KVC_UNROLL
            for (int m = 0; m < tiles; m++) {
                simt::mma(x[m][2 * t], a[m].w[0], a[m].w[1], a[m].w[2], a[m].w[3], b.w[0], b.w[1]);
                simt::mma(x[m][2 * t + 1], a[m].w[0], a[m].w[1], a[m].w[2], a[m].w[3], b.w[2], b.w[3]);
            }
        }
    }
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        const RowFacts* const row = facts + 16 * m + lane / 4;
        const float slope[2] = {row[0].slope * unit, row[8].slope * unit};
        KVC_UNROLL
        for (int j = 0; j < 8; j++) {
            KVC_UNROLL
            for (int i = 0; i < 4; i++) {
                x[m][j][i] *= slope[i / 2];
            }
        }
    }
}

// Bits low .. high, as far as they are among 0 .. 63.
KVC_DEVICE uint64_t bits_from_to(int64_t low, int64_t high) {
    const uint64_t from = low <= 0 ? all_live : low > 63 ? 0 : all_live << low;
    const uint64_t to = high < 0 ? 0 : high >= 63 ? all_live : all_live >> (63 - high);
    return from & to;
}

// The tokens of a page that a row sees.
KVC_DEVICE uint64_t seen_of(const RunTokens& run, const Sight& sight) {
    if (!run.positions) {
        return run.live & bits_from_to(sight.low - run.first, sight.high - run.first);
    }
    uint64_t seen = 0;
    KVC_NO_UNROLL
    for (int t = 0; t < page_tokens; t++) {
        const int64_t at = run.positions[t];
        seen |= uint64_t{at >= sight.low && at <= sight.high} << t;
    }
    return seen & run.live;
}

// -infinity where a row does not see a token.
template <int tiles>
KVC_DEVICE void mask_page(int lane, const RowFacts* facts, const RunTokens& run, float (&x)[tiles][8][4]) {
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            const uint64_t seen = seen_of(run, facts[16 * m + 8 * half + lane / 4].sight) >> (2 * (lane % 4));
            const uint32_t words[2] = {uint32_t(seen), uint32_t(seen >> 32)};
            KVC_UNROLL
            for (int i = 0; i < 16; i++) {
                float& score = x[m][i / 2][2 * half + i % 2];
                score = words[i / 8] >> (8 * (i / 2 % 4) + i % 2) & 1 ? score : -simt::infinity();
            }
        }
    }
}

// What a page's weights are, and by how much the outputs before it shrink.
template <int tiles>
struct PageWeights {
    uint32_t p[tiles][4][4];  // A operand: rows, and 16 tokens t of the contraction
    float shrink[tiles][2];
    float sum[tiles][2];  // of this lane's tokens
};

// What weights and sums are relative to. A function of the largest x, so that it needs no register of its own.
KVC_DEVICE float reference_of(float most) { return simt::maximum(nothing_yet, most - headroom); }

template <int tiles>
KVC_DEVICE void weigh_page(const float (&x)[tiles][8][4], PageWeights<tiles>* weights, RowSums* sums) {
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        RowSums rows = *sums_of_tile(sums, m);
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            float most = x[m][0][2 * half];
            KVC_UNROLL
            for (int i = 1; i < 16; i++) {
                most = simt::maximum(most, x[m][i / 2][2 * half + i % 2]);
            }
            most = simt::maximum(most, simt::shuffle_xor(most, 1));
            most = simt::maximum(most, simt::shuffle_xor(most, 2));
            const float before = reference_of(rows.most[half]);
            most = simt::maximum(rows.most[half], most);
            const float reference = reference_of(most);
            const float shrink = simt::exp2(before - reference);
            float sum = 0.0f;
            KVC_UNROLL
            for (int j = 0; j < 8; j++) {
                const float p0 = simt::exp2(x[m][j][2 * half] - reference), p1 = simt::exp2(x[m][j][2 * half + 1] - reference);
                sum += p0;
                sum += p1;
                weights->p[m][j / 2][2 * (j % 2) + half] = simt::pack_halves(p0, p1);
            }
            rows.sum[half] = simt::fma(rows.sum[half], shrink, sum);
            weights->sum[m][half] = sum;
            rows.most[half] = most;
            weights->shrink[m][half] = shrink;
        }
        *sums_of_tile(sums, m) = rows;
    }
}

// What a page weighs in each of the warp's rows, whose page_sums these are.
template <int tiles>
KVC_DEVICE void leave_page_sums(int lane, const PageWeights<tiles>& weights, const RowFacts* facts, RowSums* sums, PageSum* page_sums) {
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            float sum = weights.sum[m][half];
            sum += simt::shuffle_xor(sum, 1);
            sum += simt::shuffle_xor(sum, 2);
            const int row = 16 * m + 8 * half + lane / 4;
            if (lane % 4 == 0 && facts[row].state >= 0) {
                const float most = sums_of_tile(sums, m)->most[half];
                page_sums[row] = page_sum_of(most, reference_of(most), sum);
            }
        }
    }
}

// acc += weights * fragment c of the values.
template <int tiles>
KVC_DEVICE void multiply_values_of(const std::byte* values, int c, const PageWeights<tiles>& weights, float (&acc)[tiles][2][4]) {
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        const TileWords b = load_tile(values, c, t);
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            const uint32_t(&p)[4] = weights.p[m][t];
            simt::mma(acc[m][0], p[0], p[1], p[2], p[3], b.w[0], b.w[1]);
            simt::mma(acc[m][1], p[0], p[1], p[2], p[3], b.w[2], b.w[3]);
        }
    }
}

// values: the lane's place in the tile; scaled: times the unit of the page's values.
template <bool scaled, int VD, int tiles>
KVC_DEVICE void add_page_values(const std::byte* values, float unit, const PageWeights<tiles>& weights, RowsState<VD, tiles>* state) {
    const int behind = simt::sums_behind();
    // A page's sums of their own: tensor cores cut off where they add to a large number, which must not add up over a context.
    float acc[VD / 16][tiles][2][4] = {};
    KVC_UNROLL
    for (int next = 0; next < VD / 16 + behind; next++) {
        if (next < VD / 16) {
            multiply_values_of(values, next, weights, acc[next]);
        }
        const int c = next - behind;
        if (c < 0) {
            continue;
        }
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            KVC_UNROLL
            for (int i = 0; i < 8; i++) {
                float& o = state->o[m][2 * c + i / 4][i % 4];
                const float sum = acc[c][m][i / 4][i % 4];
                o = simt::fma(o, weights.shrink[m][i % 4 / 2], scaled ? sum * unit : sum);
            }
        }
    }
}

// The states of the warp's rows, relative to their largest logit. unit: of the values' tiles.
template <int VD, int tiles>
KVC_DEVICE void write_rows(const AttendItem& item, const RowFacts* facts, float unit, RowSums* sums,
                           const RowsState<VD, tiles>& state) {
    const int quad = simt::lane() % 4;
    KVC_UNROLL
    for (int m = 0; m < tiles; m++) {
        const RowSums rows = *sums_of_tile(sums, m);
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            float sum = rows.sum[half];
            sum += simt::shuffle_xor(sum, 1);
            sum += simt::shuffle_xor(sum, 2);
            const float most = rows.most[half];
            const int64_t row = facts[16 * m + 8 * half + simt::lane() / 4].state;
            if (row < 0) {
                continue;
            }
            // What a token of the largest logit weighs here: a lone one has d = 1 exactly.
            const float largest = most == -simt::infinity() ? 1.0f : simt::exp2(most - reference_of(most));
            float* const out = item.state + row * (VD + 2);
            KVC_UNROLL
            for (int c = 0; c < VD / 16; c++) {
                KVC_UNROLL
                for (int i = 0; i < 4; i++) {
                    out[value_channel(VD, c, 2 * quad + i % 2, i / 2)] = state.o[m][2 * c + i / 2][2 * half + i % 2] * (unit / largest);
                }
            }
            if (quad == 0) {
                // The maximum passes over logits that are no numbers; their sum does not.
                out[VD] = sum == sum ? most * ln_2 : sum;
                out[VD + 1] = sum / largest;
            }
        }
    }
}

}  // namespace kvc::cuda
