// Attention of a few query rows over one item: the pages of a (sequence, kv head) that lie in one split.
//
// A block takes eight query rows (blockIdx.x) of an item (blockIdx.y); its warps take pages in turn, by the page's place in the
// sequence, so that no bit depends on what else the item or the batch holds, and merge in a fixed order.
#pragma once
#include "kernels/cuda/coded_page.cuh"
#include "kernels/cuda/page_ring.cuh"
#include "kernels/cuda/row_page.cuh"

namespace kvc::cuda {

// One warp at work on eight rows; kind: what a coded entry points at.
template <int KD, int VD, PageKind kind>
struct WarpAttend {
    const AttendArgs& args;
    const AttendItem& item;
    int first_row;
    Sight first, last;  // of the first and the last row: between them lies what some see and some do not
    QueryTile<KD, kind> query;
    WarpState<VD> state;
};

// Whether every row sees all tokens of a run.
template <int tiles, int KD, int VD, PageKind kind>
KVC_DEVICE bool sees_all(const WarpAttend<KD, VD, kind>& warp, const RunTokens& run) {
    constexpr uint64_t all = all_live >> (page_tokens - 16 * tiles);
    return (run.live & all) == all && !run.positions && run.first >= warp.last.low && run.first + 16 * tiles - 1 <= warp.first.high;
}

template <int KD, int VD, PageKind kind, int tiles>
KVC_DEVICE void finish_scores(const WarpAttend<KD, VD, kind>& warp, bool all_seen, const RunTokens& run, float (&x)[tiles][4]) {
    if (warp.args.soft_cap > 0.0f) {
        cap_scores(warp.args.soft_cap, x);
    }
    if (!all_seen) {
        mask_scores(warp.args, warp.item, warp.first_row, run, x);
    }
}

template <int KD, int VD, PageKind kind, class Bytes>
KVC_DEVICE void attend_coded_page(const Bytes& record, bool all_seen, const RunTokens& page, WarpAttend<KD, VD, kind>* warp) {
    float x[4][4];
    coded_scores<kind, KD, VD>(record, warp->query, x);
    finish_scores(*warp, all_seen, page, x);
    const TokenHalves scales = load_value_scales<kind, KD, VD>(record);
    const RunWeights<4> weights = weigh_run(room_beside(scales), x, &warp->state);
    add_coded_values<kind, KD, VD>(record, warp->args.v_twice_middle, scales, weights, &warp->state);
}

template <class Bytes, bool partial, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_rows(const RowRun<Bytes, partial>& rows, bool all_seen, const RunTokens& run, WarpAttend<KD, VD, kind>* warp) {
    float x[1][4];
    row_scores(rows, warp->query, x[0]);
    finish_scores(*warp, all_seen, run, x);
    constexpr bool in_two = kind == PageKind::bf16_rows;
    const RunWeights<1, in_two> weights = weigh_run<in_two>(in_two ? headroom_bf16 : headroom, x, &warp->state);
    add_row_values<kind>(rows, weights, &warp->state);
}

// The sixteen tokens of a page from `start` on.
KVC_DEVICE RunTokens run_of_page(const RunTokens& page, int start) {
    return {page.first + start, page.positions, page.live >> start, start};
}

// A page of rows, or sinks, of which those in `present` are surely written. Sixteen tokens at a time: few registers and little code,
// and the few instructions more do not show where 32 KB a page have to come from memory.
template <bool partial, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_row_page(const std::byte* record, int64_t capacity, uint64_t present, const RunTokens& page,
                                WarpAttend<KD, VD, kind>* warp) {
    const std::byte* const values = record + capacity * KD * 2;
    KVC_NO_UNROLL
    for (int start = 0; start < page_tokens && present >> start != 0; start += 16) {
        const RowRun<simt::GlobalBytes, partial> rows{{record + start * KD * 2}, {values + start * VD * 2}, uint32_t(present >> start)};
        const RunTokens run = run_of_page(page, start);
        attend_rows(rows, sees_all<1>(*warp, run), run, warp);
    }
}

KVC_DEVICE PageEntry load_entry(const PageEntry* entry) {
    const simt::Words4 w = simt::load_128(entry);
    return {w.w[0], w.w[1], uint64_t(w.w[3]) << 32 | w.w[2]};
}
static_assert(sizeof(PageEntry) == 16 && offsetof(PageEntry, live) == 8);

// The first entry, of those from `position` on, that belongs to this warp.
KVC_DEVICE int64_t first_entry_of_warp(int64_t position) { return (simt::warp() - (position >> 6)) & (warps - 1); }

// One page of a list of entries: where it lies and which tokens it has.
struct Page {
    const std::byte* record;  // nullptr: dropped, or out of sight of all rows
    RunTokens tokens;
};

template <int KD, int VD, PageKind kind>
KVC_DEVICE Page find_page(const WarpAttend<KD, VD, kind>& warp, const PageEntry* entries, int64_t e, int64_t position,
                          int64_t record_bytes) {
    const PageEntry entry = load_entry(entries + e);
    const int64_t first = position + page_tokens * e;
    if (entry.record == 0 || (entry.side == 0 && (first > warp.last.high || first + page_tokens - 1 < warp.first.low))) {
        return {nullptr, {}};
    }
    const PageSide* const side =
        entry.side ? reinterpret_cast<const PageSide*>(record_address(warp.args, entry.side, side_bytes)) : nullptr;
    return {record_address(warp.args, entry.record, record_bytes), {first, side ? side->positions : nullptr, entry.live}};
}

// Up to 32 coded pages of this warp, found by its lanes at once, so that only the first waits for entries and addresses.
struct WarpPages {
    const std::byte* record;  // of the page of this lane: lane i has the i-th
    uint32_t there;           // bit i: the i-th page is to be read
    uint32_t whole;           // bit i: every row sees all of its tokens
};

template <int KD, int VD, PageKind kind>
KVC_DEVICE WarpPages find_pages(const WarpAttend<KD, VD, kind>& warp, int64_t first_entry) {
    const AttendItem& item = warp.item;
    const int64_t e = first_entry + warps * simt::lane();
    Page page = {nullptr, {}};
    if (e < item.n_coded) {
        page = find_page(warp, item.coded, e, item.coded_position, warp.args.code_bytes);
    }
    return {page.record, simt::ballot(page.record != nullptr), simt::ballot(page.record && sees_all<4>(warp, page.tokens))};
}

// A walk over the pages of WarpPages, each in as many pieces as the ring takes it.
struct PageWalk {
    uint32_t left;  // pages
    int piece = 0;

    KVC_DEVICE int page() const { return simt::lowest_bit(left); }
    KVC_DEVICE void next(int pieces) {
        if (++piece == pieces) {
            piece = 0;
            left &= left - 1;
        }
    }
};

template <PageKind kind>
constexpr int ring_pieces = holds_rows<kind> ? 4 : 1;

// Starts the copy of the walk's next piece: a coded page, or the keys and values of sixteen rows.
template <PageKind kind, int KD, int VD>
KVC_DEVICE void fill_ring(const AttendArgs& args, const WarpPages& pages, PageWalk* walk, PageRing* ring) {
    const std::byte* const record = simt::shuffle(pages.record, walk->page());
    if constexpr (holds_rows<kind>) {
        constexpr int key_bytes = 16 * KD * 2, value_bytes = 16 * VD * 2;
        ring->fill(record + walk->piece * key_bytes, key_bytes, record + 4 * key_bytes + walk->piece * value_bytes, value_bytes);
    } else {
        ring->fill(record, int(args.code_bytes));
    }
    walk->next(ring_pieces<kind>);
}

// One piece, from the ring or from where the page lies.
template <class Bytes, int KD, int VD, PageKind kind>
KVC_DEVICE void attend_piece(const Bytes& keys, const Bytes& values, bool whole, const RunTokens& page, int piece,
                             WarpAttend<KD, VD, kind>* warp) {
    if constexpr (holds_rows<kind>) {
        attend_rows(RowRun<Bytes, false>{keys, values, 0xffff}, whole, run_of_page(page, 16 * piece), warp);
    } else {
        attend_coded_page(keys, whole, page, warp);
    }
}

// Up to 32 pages of a warp from first_entry on, as many on their way as the ring holds.
struct PageRun {
    int64_t first_entry;
    WarpPages pages;
    PageWalk fill;  // what the ring takes next
};

template <int KD, int VD, PageKind kind>
KVC_DEVICE PageRun start_pages(int64_t first_entry, const WarpAttend<KD, VD, kind>& warp, PageRing* ring) {
    PageRun run{first_entry, find_pages(warp, first_entry), {}};
    run.fill.left = run.pages.there;
    for (int i = 0; i < ring->slots() && run.fill.left; i++) {
        fill_ring<kind, KD, VD>(warp.args, run.pages, &run.fill, ring);
    }
    return run;
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_pages(PageRun run, PageRing* ring, WarpAttend<KD, VD, kind>* warp) {
    const AttendItem& item = warp->item;
    KVC_NO_UNROLL
    for (PageWalk walk{run.pages.there}; walk.left; walk.next(ring_pieces<kind>)) {
        const bool whole = run.pages.whole >> walk.page() & 1;
        RunTokens tokens = {};
        if (!whole) {
            const int64_t e = run.first_entry + warps * walk.page();
            tokens = find_page(*warp, item.coded, e, item.coded_position, warp->args.code_bytes).tokens;
        }
        if (simt::has_bulk_copies()) {
            const simt::SharedBytes bytes = ring->wait();
            attend_piece(bytes, bytes.plus(16 * KD * 2), whole, tokens, walk.piece, warp);
            ring->release();
            if (run.fill.left) {
                fill_ring<kind, KD, VD>(warp->args, run.pages, &run.fill, ring);
            }
        } else {
            const std::byte* const record = simt::shuffle(run.pages.record, walk.page());
            attend_piece(simt::GlobalBytes{record + walk.piece * 16 * KD * 2},
                               simt::GlobalBytes{record + page_tokens * KD * 2 + walk.piece * 16 * VD * 2}, whole, tokens, walk.piece,
                               warp);
        }
    }
}

// Tokens first .. first + 63 of which some row may see one: nothing beyond need have been written.
template <int KD, int VD, PageKind kind>
KVC_DEVICE uint64_t written_from(const WarpAttend<KD, VD, kind>& warp, int64_t first) {
    const int64_t n = warp.last.high - first + 1;
    return n <= 0 ? 0 : n >= page_tokens ? all_live : all_live >> (page_tokens - n);
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_window(WarpAttend<KD, VD, kind>* warp) {
    const AttendItem& item = warp->item;
    for (int64_t e = first_entry_of_warp(item.window_position); e < item.n_window; e += warps) {
        const Page page = find_page(*warp, item.window, e, item.window_position, warp->args.window_bytes);
        if (!page.record) {
            continue;
        }
        const uint64_t written = page.tokens.positions ? all_live : written_from(*warp, page.tokens.first);
        attend_row_page<true>(page.record, page_tokens, page.tokens.live & written, page.tokens, warp);
    }
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void attend_sinks(int64_t capacity, WarpAttend<KD, VD, kind>* warp) {
    const AttendItem& item = warp->item;
    if (item.sinks == 0 || item.sink_tokens == 0 || simt::warp() != 0) {
        return;
    }
    const uint64_t live = all_live >> (page_tokens - item.sink_tokens);
    const std::byte* const record = record_address(warp->args, item.sinks, warp->args.sink_bytes);
    attend_row_page<true>(record, capacity, live & written_from(*warp, item.sinks_position), {item.sinks_position, nullptr, live},
                          warp);
}

// ---- merge of the warps ----

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
            merge->sum[warp][2 * quad + column] = sum * factor;
        }
        KVC_UNROLL
        for (int c = 0; c < VD / 16; c++) {
            float* const o = merge->o[warp][2 * quad + column];
            constexpr int widest = widest_run(coding<kind>.grouped);
            o[value_channel(VD, c, row, 0, widest)] = state.o[c][column] * factor * (1 / output_unit);
            o[value_channel(VD, c, row, 1, widest)] = state.o[c][2 + column] * factor * (1 / output_unit);
        }
    }
}

// Each warp writes the rows of its number, of its number plus `warps`, and so on.
template <int VD>
KVC_DEVICE void write_states(const AttendArgs& args, const AttendItem& item, int first_row, const Merge<VD>& merge) {
    for (int row = simt::warp(); row < tile_rows; row += warps) {
        const int group = int(args.group), token = (first_row + row) / group, head = (first_row + row) % group;
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

// ---- the kernel ----

// Blocks of which a multiprocessor is to hold so many.
template <PageKind kind, int KD>
constexpr int resident_blocks = !holds_rows<kind> && KD <= 128 ? 3 : 2;

template <int KD, int VD, PageKind kind>
KVC_KERNEL(threads, (resident_blocks<kind, KD>))
attend_decode(AttendArgs args, int64_t sink_capacity, RingShape ring_shape) {
    std::byte* const shared = simt::dynamic_shared();
    const AttendItem& item = args.items[simt::block_y()];
    const int first_row = tile_rows * simt::block_x();
    if (first_row >= item.tokens * args.group) {
        return;
    }
    PageRing ring(ring_shape, shared);
    WarpAttend<KD, VD, kind> warp{
        args, item, first_row, sight_of(args, item, first_row), sight_of(args, item, first_row + tile_rows - 1), {}, {}};
    // The first pages are on their way before anything else is waited for.
    PageRun run = start_pages(first_entry_of_warp(item.coded_position), warp, &ring);
    load_queries(args, item, first_row, &warp.query);
    reset(&warp.state);
    attend_sinks(sink_capacity, &warp);
    for (;;) {
        attend_pages(run, &ring, &warp);
        if (run.first_entry + 32 * warps >= item.n_coded) {
            break;
        }
        run = start_pages(run.first_entry + 32 * warps, warp, &ring);
    }
    attend_window(&warp);
    // The warps' results take the place of their rings.
    simt::sync_block();
    Merge<VD>* const merge = reinterpret_cast<Merge<VD>*>(shared);
    leave_state<kind>(warp.state, merge);
    simt::sync_block();
    write_states(args, item, first_row, *merge);
}

}  // namespace kvc::cuda
