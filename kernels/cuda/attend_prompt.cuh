// Attention of the prompt class: up to 64 positions times the query heads of a group, all of which see a page in the same form.
//
// A block takes 64 or 128 of an item's rows (blockIdx.x), and dequantizes each page once for all of them (page_tile.cuh); its warps
// own 16 or 32 rows each, for the whole item: scores, running softmax and outputs never leave the warp's registers (the loop of
// FlashAttention-2, arXiv 2307.08691, over coded pages). All rows walk the pages in the same order, and a page that a row does not see
// changes none of its bits; so they depend neither on the other rows of the block, nor on how many rows it takes.
// Bound by tensor cores from about 64 rows on; below, by the dequantization of a page.
#pragma once
#include "kernels/cuda/prompt_pages.cuh"

namespace kvc::cuda {

// One warp at work on 16 * tiles rows. Made anew for every page, so that it occupies no registers in between.
struct WarpPrompt {
    const PromptArgs& args;
    const AttendItem& item;
    int lane;
    int first_row;
    const std::byte* queries;
    const RowFacts* facts;

    // The item has no such rows.
    KVC_DEVICE bool idle() const { return facts[0].state < 0; }
};

template <int KD, int VD, int tiles>
KVC_DEVICE WarpPrompt prompt_warp(const PromptArgs& args, const AttendItem& item, const std::byte* shared) {
    using Shared = PromptShared<KD, VD, tiles>;
    const Filler self = Filler::self();
    const int row = 16 * tiles * self.warp;
    return {args,
            item,
            self.lane,
            Shared::rows * simt::block_x() + row,
            shared + Shared::queries + query_offset<KD>(self.warp * tiles, 0, self.lane),
            reinterpret_cast<const RowFacts*>(shared + Shared::facts) + row};
}

// The warp's part of a block's rows, in shared memory.
template <int KD, int VD, int tiles, bool general>
KVC_DEVICE void load_prompt_rows(const PromptArgs& args, const AttendItem& item, std::byte* shared) {
    using Shared = PromptShared<KD, VD, tiles>;
    const int row = 16 * tiles * simt::warp();
    const auto load = [&](int first_row, float(&x)[KD / 16][4]) {
        if constexpr (general) {
            return load_turned_row<KD>(args.attend, args.rope, item, first_row, x);
        } else {
            return load_row_of_lane<KD>(args.attend, item, first_row, x);
        }
    };
    load_query_rows<KD, tiles>(args.attend, item, Shared::rows * simt::block_x() + row, load,
                               shared + Shared::queries + query_offset<KD>(simt::warp() * tiles, 0, 0),
                               reinterpret_cast<RowFacts*>(shared + Shared::facts) + row);
}

template <int tiles>
KVC_DEVICE bool sees_nothing(const WarpPrompt& warp, const RunTokens& run) {
    return warp.idle() || (!run.positions && (run.first > warp.facts[16 * tiles - 1].sight.high ||
                                              run.first + page_tokens - 1 < warp.facts[0].sight.low));
}

// Whether all rows of the warp see all tokens of a page.
template <int tiles>
KVC_DEVICE bool sees_all(const WarpPrompt& warp, const RunTokens& run) {
    return run.live == all_live && !run.positions && run.first >= warp.facts[16 * tiles - 1].sight.low &&
           run.first + page_tokens - 1 <= warp.facts[0].sight.high;
}

// Logits over ln 2 of a page whose keys lie in the tile; -infinity where nothing is seen.
template <int KD, int tiles>
KVC_DEVICE void prompt_logits(const WarpPrompt& warp, const PromptPage& page, const std::byte* keys, float unit, const float* bias,
                              float (&x)[tiles][8][4]) {
    page_scores<KD, tiles>(warp.lane, warp.queries, keys, warp.facts, unit, x);
    const AttendArgs& args = warp.args.attend;
    if (args.soft_cap.log2 > 0.0f) {
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            cap_scores(args.soft_cap, x[m]);
        }
    }
    if (warp.item.n_counts > 0) {
        add_bias(warp.lane, bias, x);
    }
    if (!simt::any(sees_all<tiles>(warp, page.tokens))) {
        mask_page(warp.lane, warp.facts, page.tokens, x);
    }
}

// Calls visit(page) for the pages of the item that some row of the block sees, in order, with the block in step before and after. The
// facts of the block's rows need not be written yet. The list says itself where it ends, so that the walk occupies one register while a
// page is visited; and votes tell ptxas that warps do not part (docs/design/cuda.md, 4).
template <class Shared, class Visit>
KVC_DEVICE void for_each_prompt_page(const PromptArgs& args, const AttendItem& item, const MassItem* mass, std::byte* shared,
                                     const Visit& visit) {
    PromptPage* const list = reinterpret_cast<PromptPage*>(shared + Shared::pages);
    const RowFacts* const facts = reinterpret_cast<const RowFacts*>(shared + Shared::facts);
    KVC_NO_UNROLL
    for (int start = 0;; start += Shared::listed) {
        simt::sync_block();
        if (const int i = simt::thread_anew(); i < Shared::listed) {
            list[i] = find_prompt_page(args, item, mass, {facts[0].sight, facts[Shared::rows - 1].sight}, start + i);
        }
        simt::sync_block();
        KVC_NO_UNROLL
        for (int i = 0; i < Shared::listed; i++) {
            if (simt::any(list[i].end)) {
                return;
            }
            if (simt::any(list[i].record != nullptr)) {
                visit(list[i]);
                simt::sync_block();
            }
        }
    }
}

// Keys, and what counts add, in the block's shared memory; returns the keys' unit. By all threads, which then synchronize.
template <int KD, bool general>
KVC_DEVICE float fill_prompt_keys(const PromptArgs& args, const AttendItem& item, const PromptPage& page, std::byte* keys, float* bias,
                                  float* lifts) {
    float unit = key_unit(page);
    fill_keys<KD>(args, page, keys);
    if constexpr (general) {
        simt::sync_block();
        if (args.bf16) {
            unit = lift_bfloats<KD>(keys, lifts);
            simt::sync_block();
        }
        turn_key_tile<KD>(args.rope, page.tokens, page.sinks ? 0 : item.rope_gap, keys);
    }
    if (item.n_counts > 0) {
        fill_bias(item, page.tokens, bias);
    }
    return unit;
}

template <int KD, int VD, bool general>
KVC_DEVICE float fill_prompt_values(const PromptArgs& args, const PromptPage& page, std::byte* values, float* lifts) {
    fill_values<KD, VD>(args, page, values);
    if constexpr (general) {
        if (args.bf16) {
            simt::sync_block();
            return lift_bfloats<VD>(values, lifts);
        }
    }
    return 1.0f;
}

// Where the lane's running softmax is: with two tiles in shared memory, because the registers that it would take are those that ptxas
// lacks (docs/design/cuda.md, 6).
template <class Shared, int tiles>
KVC_DEVICE RowSums* sums_of_lane(std::byte* shared, RowSums* in_registers) {
    if constexpr (tiles == 1) {
        return in_registers;
    } else {
        const Filler self = Filler::self();
        return reinterpret_cast<RowSums*>(shared + Shared::sums) + 32 * tiles * self.warp + self.lane;
    }
}

// Whether outputs begin as four registers in a row each, and the values' place is found from the lane's number anew. It
// decides what ptxas makes of the code, never what the code computes: at this head dim less goes to local memory with it, at others more
// (docs/design/cuda.md, 4).
template <int KD, int VD, int tiles>
KVC_DEVICE constexpr bool outputs_in_fours() {
    return tiles > 1 && KD == 128 && VD == 128;
}

// general: also of keys before RoPE, and of rows in bf16, which both take more work for each page.
template <int KD, int VD, int tiles, bool general>
KVC_KERNEL(threads, 2)
attend_prompt(PromptArgs args) {
    using Shared = PromptShared<KD, VD, tiles>;
    std::byte* const shared = simt::dynamic_shared();
    float* const bias = reinterpret_cast<float*>(shared + Shared::bias);
    float* const lifts = reinterpret_cast<float*>(shared + Shared::lifts);
    const AttendItem& item = args.attend.items[simt::block_y()];
    if (Shared::rows * simt::block_x() >= item.tokens * args.attend.group) {
        return;
    }
    load_prompt_rows<KD, VD, tiles, general>(args, item, shared);
    RowsState<VD, tiles> state;
    RowSums in_registers;
    constexpr bool in_fours = outputs_in_fours<KD, VD, tiles>();
    reset<in_fours>(sums_of_lane<Shared, tiles>(shared, &in_registers), &state);
    for_each_prompt_page<Shared>(args, item, nullptr, shared, [&](const PromptPage& page) {
        const float k_unit = fill_prompt_keys<KD, general>(args, item, page, shared + Shared::keys, bias, lifts);
        const float v_unit = fill_prompt_values<KD, VD, general>(args, page, shared + Shared::values, lifts + warps);
        simt::sync_block();
        const WarpPrompt warp = prompt_warp<KD, VD, tiles>(args, item, shared);
        if (simt::any(sees_nothing<tiles>(warp, page.tokens))) {
            return;
        }
        RowSums* const sums = sums_of_lane<Shared, tiles>(shared, &in_registers);
        float x[tiles][8][4];
        PageWeights<tiles> weights;
        prompt_logits<KD>(warp, page, shared + Shared::keys + tile_offset(0, 0, warp.lane), k_unit, bias, x);
        weigh_page(x, &weights, sums);
        if (item.page_sums != nullptr) {
            leave_page_sums(warp.lane, weights, warp.facts, sums,
                            item.page_sums + page.run * item.tokens * args.attend.group + warp.first_row);
        }
        const int lane = in_fours ? simt::lane_anew() : warp.lane;
        add_page_values<general>(shared + Shared::values + tile_offset(0, 0, lane), v_unit, weights, &state);
    });
    const WarpPrompt warp = prompt_warp<KD, VD, tiles>(args, item, shared);
    if (!warp.idle()) {
        write_rows(item, warp.facts, value_unit(args), sums_of_lane<Shared, tiles>(shared, &in_registers), state);
    }
}

}  // namespace kvc::cuda
