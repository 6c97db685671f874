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

// One warp at work on 16 * tiles rows.
struct WarpPrompt {
    const PromptArgs& args;
    const AttendItem& item;
    int first_row;
    bool idle;  // the item has no such rows
    const std::byte* queries;
    const RowFacts* facts;
};

// The warp's part of a block's rows; loads its queries.
template <int KD, int VD, int tiles>
KVC_DEVICE WarpPrompt prompt_warp(const PromptArgs& args, const AttendItem& item, std::byte* shared) {
    using Shared = PromptShared<KD, VD, tiles>;
    const int row = 16 * tiles * simt::warp();
    std::byte* const queries = shared + Shared::queries + query_offset<KD>(simt::warp() * tiles, 0, 0);
    RowFacts* const facts = reinterpret_cast<RowFacts*>(shared + Shared::facts) + row;
    const int first_row = Shared::rows * simt::block_x() + row;
    load_query_rows<KD, tiles>(args.attend, item, first_row, queries, facts);
    return {args, item, first_row, first_row >= item.tokens * args.attend.group, queries, facts};
}

template <int tiles>
KVC_DEVICE bool sees_nothing(const WarpPrompt& warp, const RunTokens& run) {
    return warp.idle || (!run.positions &&
                         (run.first > warp.facts[16 * tiles - 1].sight.high || run.first + page_tokens - 1 < warp.facts[0].sight.low));
}

// Whether all rows of the warp see all tokens of a page.
template <int tiles>
KVC_DEVICE bool sees_all(const WarpPrompt& warp, const RunTokens& run) {
    return run.live == all_live && !run.positions && run.first >= warp.facts[16 * tiles - 1].sight.low &&
           run.first + page_tokens - 1 <= warp.facts[0].sight.high;
}

// Logits over ln 2 of a page whose keys lie in the tile; -infinity where nothing is seen.
template <int KD, int tiles>
KVC_DEVICE void prompt_logits(const WarpPrompt& warp, const PromptPage& page, const std::byte* keys, const float* bias,
                              float (&x)[tiles][8][4]) {
    page_scores<KD, tiles>(warp.queries, keys, warp.facts, page.capacity > 0 ? 1.0f : coded_unit, x);
    const AttendArgs& args = warp.args.attend;
    if (args.soft_cap > 0.0f) {
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            cap_scores(args.soft_cap, x[m]);
        }
    }
    if (warp.item.n_counts > 0) {
        add_bias(bias, x);
    }
    if (!sees_all<tiles>(warp, page.tokens)) {
        mask_page(warp.facts, page.tokens, x);
    }
}

// Calls visit(page) for the pages of the item that some row of the block sees, in order, with the block in step before and after.
template <class Visit>
KVC_DEVICE void for_each_prompt_page(const PromptArgs& args, const AttendItem& item, const MassItem* mass, int rows, PromptPage* list,
                                     const Visit& visit) {
    const int first_row = rows * simt::block_x();
    const BlockSight sight{sight_of(args.attend, item, first_row), sight_of(args.attend, item, first_row + rows - 1)};
    const int64_t n = pages_of(item);
    for (int64_t start = 0; start < n; start += listed_pages) {
        const int64_t here = n - start < listed_pages ? n - start : listed_pages;
        simt::sync_block();
        if (simt::thread() < here) {
            list[simt::thread()] = find_prompt_page(args, item, mass, sight, start + simt::thread());
        }
        simt::sync_block();
        KVC_NO_UNROLL
        for (int i = 0; i < here; i++) {
            if (list[i].record) {
                visit(list[i]);
                simt::sync_block();
            }
        }
    }
}

// Keys, and what counts add, in the block's shared memory. By all threads, which then synchronize.
template <int KD>
KVC_DEVICE void fill_prompt_keys(const PromptArgs& args, const AttendItem& item, const PromptPage& page, std::byte* keys, float* bias) {
    fill_keys<KD>(args, page, keys);
    if (item.n_counts > 0) {
        fill_bias(item, page.tokens, bias);
    }
}

template <int KD, int VD, int tiles>
KVC_KERNEL(threads, 2)
attend_prompt(PromptArgs args) {
    using Shared = PromptShared<KD, VD, tiles>;
    std::byte* const shared = simt::dynamic_shared();
    float* const bias = reinterpret_cast<float*>(shared + Shared::bias);
    const AttendItem& item = args.attend.items[simt::block_y()];
    if (Shared::rows * simt::block_x() >= item.tokens * args.attend.group) {
        return;
    }
    const WarpPrompt warp = prompt_warp<KD, VD, tiles>(args, item, shared);
    RowsState<VD, tiles> state;
    reset(&state);
    PromptPage* const list = reinterpret_cast<PromptPage*>(shared + Shared::pages);
    for_each_prompt_page(args, item, nullptr, Shared::rows, list, [&](const PromptPage& page) {
        fill_prompt_keys<KD>(args, item, page, shared + Shared::keys, bias);
        fill_values<KD, VD>(args, page, shared + Shared::values);
        simt::sync_block();
        if (sees_nothing<tiles>(warp, page.tokens)) {
            return;
        }
        float x[tiles][8][4];
        PageWeights<tiles> weights;
        prompt_logits<KD>(warp, page, shared + Shared::keys, bias, x);
        weigh_page(x, &weights, &state);
        add_page_values(shared + Shared::values, weights, &state);
    });
    if (!warp.idle) {
        write_rows(args.attend, item, warp.first_row, args.coded_rows ? 1.0f : coded_unit, state);
    }
}

}  // namespace kvc::cuda
