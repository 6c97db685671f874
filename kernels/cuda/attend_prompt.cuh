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
template <int tiles>
struct WarpPrompt {
    const PromptArgs& args;
    const AttendItem& item;
    int first_row;
    bool idle;          // the item has no such rows
    Sight first, last;  // of the warp's first and last row
    float slopes[tiles][2];
};

// The warp's part of a block's rows; loads its queries.
template <int KD, int VD, int tiles>
KVC_DEVICE WarpPrompt<tiles> prompt_warp(const PromptArgs& args, const AttendItem& item, std::byte* shared) {
    using Shared = PromptShared<KD, VD, tiles>;
    const int first_row = Shared::rows * simt::block_x() + 16 * tiles * simt::warp();
    WarpPrompt<tiles> warp{args,
                           item,
                           first_row,
                           first_row >= item.tokens * args.attend.group,
                           sight_of(args.attend, item, first_row),
                           sight_of(args.attend, item, first_row + 16 * tiles - 1),
                           {}};
    load_query_rows<KD, tiles>(args.attend, item, first_row, shared + Shared::queries + query_offset<KD>(simt::warp() * tiles, 0, 0),
                               warp.slopes);
    return warp;
}

template <int tiles>
KVC_DEVICE bool sees_nothing(const WarpPrompt<tiles>& warp, const RunTokens& run) {
    return warp.idle || (!run.positions && (run.first > warp.last.high || run.first + page_tokens - 1 < warp.first.low));
}

// Logits over ln 2 of a page whose keys lie in the tile; -infinity where nothing is seen.
template <int KD, int VD, int tiles>
KVC_DEVICE void prompt_logits(const WarpPrompt<tiles>& warp, const PromptPage& page, const std::byte* shared, float (&x)[tiles][8][4]) {
    using Shared = PromptShared<KD, VD, tiles>;
    const std::byte* const queries = shared + Shared::queries + query_offset<KD>(simt::warp() * tiles, 0, 0);
    page_scores<KD, tiles>(queries, shared + Shared::keys, warp.slopes, page.capacity > 0 ? 1.0f : coded_unit, x);
    const AttendArgs& args = warp.args.attend;
    if (args.soft_cap > 0.0f) {
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            cap_scores(args.soft_cap, x[m]);
        }
    }
    if (warp.item.n_counts > 0) {
        add_bias(reinterpret_cast<const float*>(shared + Shared::bias), x);
    }
    const RunTokens& run = page.tokens;
    const bool all_seen =
        run.live == all_live && !run.positions && run.first >= warp.last.low && run.first + page_tokens - 1 <= warp.first.high;
    if (!all_seen) {
        mask_page(args, warp.item, warp.first_row, run, x);
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
template <int KD, int VD, int tiles>
KVC_DEVICE void fill_prompt_keys(const PromptArgs& args, const AttendItem& item, const PromptPage& page, std::byte* shared) {
    using Shared = PromptShared<KD, VD, tiles>;
    fill_keys<KD>(args, page, shared + Shared::keys);
    if (item.n_counts > 0) {
        fill_bias(item, page.tokens, reinterpret_cast<float*>(shared + Shared::bias));
    }
}

template <int KD, int VD, int tiles>
KVC_KERNEL(threads, 2)
attend_prompt(PromptArgs args) {
    using Shared = PromptShared<KD, VD, tiles>;
    std::byte* const shared = simt::dynamic_shared();
    const AttendItem& item = args.attend.items[simt::block_y()];
    if (Shared::rows * simt::block_x() >= item.tokens * args.attend.group) {
        return;
    }
    const WarpPrompt<tiles> warp = prompt_warp<KD, VD, tiles>(args, item, shared);
    RowsState<VD, tiles> state;
    reset(&state);
    PromptPage* const list = reinterpret_cast<PromptPage*>(shared + Shared::pages);
    for_each_prompt_page(args, item, nullptr, Shared::rows, list, [&](const PromptPage& page) {
        fill_prompt_keys<KD, VD, tiles>(args, item, page, shared);
        fill_values<KD, VD>(args, page, shared + Shared::values);
        simt::sync_block();
        if (sees_nothing(warp, page.tokens)) {
            return;
        }
        float x[tiles][8][4];
        PageWeights<tiles> weights;
        prompt_logits<KD, VD>(warp, page, shared, x);
        weigh_page(x, &weights, &state);
        add_page_values(shared + Shared::values, weights, &state);
    });
    if (!warp.idle) {
        write_rows(args.attend, item, warp.first_row, args.coded_rows ? 1.0f : coded_unit, state);
    }
}

}  // namespace kvc::cuda
