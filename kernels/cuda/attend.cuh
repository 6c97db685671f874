// Decode attention: eight query rows of an item, the pages of a (sequence, kv head) that lie in one split.
//
// A block takes eight query rows (blockIdx.x) of an item (blockIdx.y); its warps take pages in turn, by the page's place in the
// sequence, so that no bit depends on what else the item or the batch holds, and merge in a fixed order. Blocks that stay and take
// one item after the other, with the next one's pages on their way, were tried: no faster (docs/design/cuda.md).
#pragma once
#include "kernels/cuda/coded_page.cuh"
#include "kernels/cuda/counts.cuh"
#include "kernels/cuda/merge.cuh"
#include "kernels/cuda/row_page.cuh"

namespace kvc::cuda {

// One warp at work on eight rows; kind: what a coded entry points at.
template <int KD, int VD, PageKind kind>
struct WarpAttend {
    const AttendArgs& args;
    ItemRows rows;
    QueryTile<KD, kind> query;
    WarpState<VD> state;
};

// Tokens that others joined weigh more.
template <int tiles>
KVC_DEVICE void add_log_counts(const AttendItem& item, const RunTokens& run, float (&x)[tiles][4]) {
    KVC_UNROLL
    for (int t = 0; t < 2 * tiles; t++) {
        const int token = 8 * t + simt::lane() / 4;
        const int64_t at = run.positions && (run.live >> token & 1) ? run.positions[run.start + token] : run.first + token;
        const float more = log_count_at(item, at) * log2_e;
        x[t / 2][t % 2 * 2] += more;
        x[t / 2][t % 2 * 2 + 1] += more;
    }
}

template <int KD, int VD, PageKind kind, int tiles>
KVC_DEVICE void finish_scores(const WarpAttend<KD, VD, kind>& warp, bool all_seen, const RunTokens& run, float (&x)[tiles][4]) {
    if (warp.args.soft_cap.log2 > 0.0f) {
        cap_scores(warp.args.soft_cap, x);
    }
    if (!all_seen) {
        if (warp.rows.item->n_counts > 0) {
            add_log_counts(*warp.rows.item, run, x);
        }
        mask_scores(warp.args, *warp.rows.item, warp.rows.first_row, run, x);
    }
}

// What a run weighs in each of the warp's rows, if that is asked; sum: of this lane's tokens.
template <int KD, int VD, PageKind kind>
KVC_DEVICE void leave_page_sum(const WarpAttend<KD, VD, kind>& warp, int64_t run, const float (&sum)[2]) {
    const AttendItem& item = *warp.rows.item;
    if (item.page_sums == nullptr) {
        return;
    }
    const int64_t rows = item.tokens * warp.args.group;
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        float all = sum[column];
        KVC_UNROLL
        for (int distance = 4; distance < 32; distance *= 2) {
            all += simt::shuffle_xor(all, distance);
        }
        const int row = warp.rows.first_row + 2 * simt::lane() + column;
        if (simt::lane() < 4 && row < rows) {
            item.page_sums[run * rows + row] = page_sum_of(warp.state.most[column], warp.state.reference[column], all);
        }
    }
}

template <int KD, int VD, PageKind kind, class Bytes>
KVC_DEVICE void attend_coded_page(const Bytes& record, bool all_seen, const RunTokens& page, int64_t run,
                                  WarpAttend<KD, VD, kind>* warp) {
    float x[4][4];
    coded_scores<kind, KD, VD>(record, warp->query, x);
    finish_scores(*warp, all_seen, page, x);
    const TokenHalves scales = load_value_scales<kind, KD, VD>(record);
    const RunWeights<4> weights = weigh_run(room_beside(scales), x, &warp->state);
    // Beside 256 channels of outputs, what is left of the weights finds no registers on sm_80 to sm_89 (docs/design/cuda.md, 4); elsewhere the
    // branch would keep products apart that could overlap.
    const bool sum_first = VD > 128 && simt::architecture() < 90;
    if (sum_first) {
        leave_page_sum(*warp, run, weights.sum);
    }
    add_coded_values<kind, KD, VD>(record, warp->args.v_twice_middle, scales, weights, &warp->state);
    if (!sum_first) {
        leave_page_sum(*warp, run, weights.sum);
    }
}

// page_sum: of the sixteenths of a page so far.
template <class Bytes, bool partial, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_rows(const RowRun<Bytes, partial>& rows, bool all_seen, const RunTokens& run, float (&page_sum)[2],
                            WarpAttend<KD, VD, kind>* warp) {
    float x[1][4];
    row_scores(rows, warp->query, x[0]);
    finish_scores(*warp, all_seen, run, x);
    constexpr bool in_two = kind == PageKind::bf16_rows;
    const RunWeights<1, in_two> weights = weigh_run<in_two>(in_two ? headroom_bf16 : headroom, x, &warp->state);
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        page_sum[column] = simt::fma(page_sum[column], weights.shrink[column], weights.sum[column]);
    }
    add_row_values<kind>(rows, weights, &warp->state);
}

// The sixteen tokens of a page from `start` on.
KVC_DEVICE RunTokens run_of_page(const RunTokens& page, int start) {
    return {page.first + start, page.positions, page.live >> start, start};
}

// A page of rows, or sinks, of which those in `present` are surely written. Sixteen tokens at a time: few registers and little code,
// and the few instructions more do not show where 32 KB a page have to come from memory.
template <bool partial, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_row_page(const std::byte* record, int64_t capacity, uint64_t present, const RunTokens& page, int64_t run_number,
                                WarpAttend<KD, VD, kind>* warp) {
    const std::byte* const values = record + capacity * KD * 2;
    float page_sum[2] = {0.0f, 0.0f};
    KVC_NO_UNROLL
    for (int start = 0; start < page_tokens && present >> start != 0; start += 16) {
        const RowRun<simt::GlobalBytes, partial> rows{{record + start * KD * 2}, {values + start * VD * 2}, uint32_t(present >> start)};
        const RunTokens run = run_of_page(page, start);
        attend_rows(rows, sees_all<1>(warp->rows, run), run, page_sum, warp);
    }
    leave_page_sum(*warp, run_number, page_sum);
}

// One piece of a page, the item's run of that number, from the ring or from where the page lies.
template <class Bytes, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_piece(const Bytes& keys, const Bytes& values, bool whole, const RunTokens& page, int piece, int64_t run,
                             float (&page_sum)[2], WarpAttend<KD, VD, kind>* warp) {
    if constexpr (holds_rows<kind>) {
        if (piece == 0) {
            page_sum[0] = page_sum[1] = 0.0f;
        }
        attend_rows(RowRun<Bytes, false>{keys, values, 0xffff}, whole, run_of_page(page, 16 * piece), page_sum, warp);
        if (piece == ring_pieces<kind> - 1) {
            leave_page_sum(*warp, run, page_sum);
        }
    } else {
        attend_coded_page(keys, whole, page, run, warp);
    }
}

// A warp's pages from first_entry on, as many on their way as the ring holds.
template <PageKind kind, int KD, int VD>
KVC_DEVICE PageRun start_run(const AttendArgs& args, const ItemRows& rows, int64_t first_entry, PageRing* ring) {
    PageRun run = find_run(args, rows, first_entry);
    for (int i = 0; has_ring<kind, KD, VD>() && i < ring->slots() && run.fill.left; i++) {
        fill_ring<kind, KD, VD>(args, &run, ring);
    }
    return run;
}

// Whether every row sees all tokens of a run's page. All lanes know it; without a ring a vote says so once more, because ptxas is then sure
// that they branch alike, and int8 at head dim 256 keeps nothing in local memory on sm_120.
template <PageKind kind, int KD, int VD>
KVC_DEVICE bool is_whole(const PageRun& run, int page) {
    const bool whole = run.whole >> page & 1;
    return has_ring<kind, KD, VD>() ? whole : simt::any(whole);
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_run(PageRun run, PageRing* ring, WarpAttend<KD, VD, kind>* warp) {
    float page_sum[2] = {0.0f, 0.0f};
    KVC_NO_UNROLL
    for (PageWalk walk{run.there}; walk.left; walk.next(ring_pieces<kind>)) {
        const bool whole = is_whole<kind, KD, VD>(run, walk.page());
        const int64_t entry = run.first_entry + warps * walk.page();
        RunTokens tokens = {};
        if (!whole) {
            tokens = find_coded_page(warp->args, warp->rows, entry).tokens;
        }
        if (has_ring<kind, KD, VD>()) {
            const simt::SharedBytes bytes = ring->wait();
            attend_piece(bytes, bytes.plus(16 * KD * 2), whole, tokens, walk.piece, 1 + entry, page_sum, warp);
            ring->release();
            if (run.fill.left) {
                fill_ring<kind, KD, VD>(warp->args, &run, ring);
            }
        } else {
            const std::byte* const record = simt::shuffle(run.record, walk.page());
            attend_piece(simt::GlobalBytes{record + walk.piece * 16 * KD * 2},
                         simt::GlobalBytes{record + page_tokens * KD * 2 + walk.piece * 16 * VD * 2}, whole, tokens, walk.piece,
                         1 + entry, page_sum, warp);
        }
    }
}

// From a run that is on its way to the item's last one. With a ring the code of a page is there twice, which takes one instruction in a
// hundred less; without one it is there once, and kivi4 at head dim 256 keeps nothing in local memory on sm_80 (docs/design/cuda.md, 4).
template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_runs(PageRun run, PageRing* ring, WarpAttend<KD, VD, kind>* warp) {
    int64_t first_entry = run.first_entry;
    const auto next = [&] { return start_run<kind, KD, VD>(warp->args, warp->rows, first_entry, ring); };
    if (has_ring<kind, KD, VD>()) {
        attend_run(run, ring, warp);
        const int64_t n = warp->rows.n_coded();
        for (first_entry += 32 * warps; first_entry < n; first_entry += 32 * warps) {
            attend_run(next(), ring, warp);
        }
    } else {
        KVC_NO_UNROLL
        for (;;) {
            attend_run(run, ring, warp);
            first_entry += 32 * warps;
            if (first_entry >= warp->rows.n_coded()) {
                break;
            }
            run = next();
        }
    }
}

// Tokens first .. first + 63 of which some row may see one: nothing beyond need have been written.
template <int KD, int VD, PageKind kind>
KVC_DEVICE uint64_t written_from(const WarpAttend<KD, VD, kind>& warp, int64_t first) {
    const int64_t n = warp.rows.last().high - first + 1;
    return n <= 0 ? 0 : n >= page_tokens ? all_live : all_live >> (page_tokens - n);
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_window(WarpAttend<KD, VD, kind>* warp) {
    const AttendItem& item = *warp->rows.item;
    for (int64_t e = first_entry_of_warp(item.window_position); e < item.n_window; e += warps) {
        const Page page = find_page(warp->args, warp->rows, item.window, e, item.window_position, warp->args.window_bytes);
        if (!page.record) {
            continue;
        }
        const uint64_t written = page.tokens.positions ? all_live : written_from(*warp, page.tokens.first);
        attend_row_page<true>(page.record, page_tokens, page.tokens.live & written, page.tokens, 1 + item.n_coded + e, warp);
    }
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_sinks(int64_t capacity, WarpAttend<KD, VD, kind>* warp) {
    const AttendItem& item = *warp->rows.item;
    if (item.sinks == 0 || item.sink_tokens == 0 || simt::warp() != 0) {
        return;
    }
    const uint64_t live = all_live >> (page_tokens - item.sink_tokens);
    const std::byte* const record = record_address(warp->args, item.sinks, warp->args.sink_bytes);
    attend_row_page<true>(record, capacity, live & written_from(*warp, item.sinks_position), {item.sinks_position, nullptr, live}, 0,
                          warp);
}

// ---- the kernel ----

// Whether what rows see lies in shared memory: beside 256 channels of outputs, and scales of groups, it finds no registers on sm_80 to
// sm_89. Others would take up to three instructions in a hundred more (docs/design/cuda.md, 4).
template <PageKind kind, int VD>
KVC_DEVICE constexpr bool keeps_rows() {
    return coding<kind>.meta.v_groups && VD > 128 && simt::architecture() < 90;
}

template <int KD, int VD, PageKind kind>
KVC_KERNEL(threads, resident_blocks)
attend_decode(AttendArgs args, int64_t sink_capacity, RingShape ring_shape) {
    std::byte* const shared = simt::dynamic_shared();
    const AttendItem& item = args.items[simt::block_y()];
    const int first_row = tile_rows * simt::block_x();
    if (first_row >= item.tokens * args.group) {
        return;
    }
    PageRing ring(ring_shape, shared);
    KVC_SHARED(KeptRows, kept);
    WarpAttend<KD, VD, kind> warp{args, ItemRows::of(args, item, first_row, keeps_rows<kind, VD>(), &kept), {}, {}};
    // The first pages are on their way before anything else is waited for.
    const PageRun run = start_run<kind, KD, VD>(args, warp.rows, first_entry_of_warp(item.coded_position), &ring);
    load_queries(args, item, first_row, &warp.query);
    reset(&warp.state);
    attend_sinks(sink_capacity, &warp);
    attend_runs(run, &ring, &warp);
    attend_window(&warp);
    // The warps' results take the place of their rings.
    simt::sync_block();
    Merge<VD>* const merge = reinterpret_cast<Merge<VD>*>(shared);
    leave_state<kind>(warp.state, merge);
    simt::sync_block();
    write_states(args, warp.rows, *merge);
}

}  // namespace kvc::cuda
