// Which pages of an item a warp reads, and how they come: found by all lanes at once, copied ahead of the arithmetic where there are
// bulk copies.
#pragma once
#include "kernels/cuda/counts.cuh"
#include "kernels/cuda/page_ring.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// Eight query rows of an item. Between the sights of the first and of the last row lies what some see and some do not.
struct ItemRows {
    const AttendItem* item;
    int first_row;
    Sight first, last;
};

KVC_DEVICE ItemRows rows_of(const AttendArgs& args, const AttendItem& item, int first_row) {
    return {&item, first_row, sight_of(args, item, first_row), sight_of(args, item, first_row + tile_rows - 1)};
}

// Whether every row sees all tokens of a run, and each stands for itself.
template <int tiles>
KVC_DEVICE bool sees_all(const ItemRows& rows, const RunTokens& run) {
    constexpr uint64_t all = all_live >> (page_tokens - 16 * tiles);
    return (run.live & all) == all && !run.positions && run.first >= rows.last.low && run.first + 16 * tiles - 1 <= rows.first.high &&
           !has_counts(*rows.item, run.first, run.first + 16 * tiles - 1);
}

KVC_DEVICE PageEntry load_entry(const PageEntry* entry) {
    const simt::Words4 w = simt::load_128(entry);
    return {w.w[0], w.w[1], uint64_t(w.w[3]) << 32 | w.w[2]};
}
static_assert(sizeof(PageEntry) == 16 && offsetof(PageEntry, live) == 8);

// One page of a list of entries: where it lies and which tokens it has.
struct Page {
    const std::byte* record;  // nullptr: dropped, or out of sight of all rows
    RunTokens tokens;
};

KVC_DEVICE Page find_page(const AttendArgs& args, const ItemRows& rows, const PageEntry* entries, int64_t e, int64_t position,
                          int64_t record_bytes) {
    const PageEntry entry = load_entry(entries + e);
    const int64_t first = position + page_tokens * e;
    if (entry.record == 0 || (entry.side == 0 && (first > rows.last.high || first + page_tokens - 1 < rows.first.low))) {
        return {nullptr, {}};
    }
    const PageSide* const side = entry.side ? reinterpret_cast<const PageSide*>(record_address(args, entry.side, side_bytes)) : nullptr;
    return {record_address(args, entry.record, record_bytes), {first, side ? side->positions : nullptr, entry.live}};
}

KVC_DEVICE Page find_coded_page(const AttendArgs& args, const ItemRows& rows, int64_t e) {
    return find_page(args, rows, rows.item->coded, e, rows.item->coded_position, args.code_bytes);
}

// The first entry, of those from `position` on, that belongs to this warp: pages go to warps by their place in the sequence.
KVC_DEVICE int64_t first_entry_of_warp(int64_t position) { return (simt::warp() - (position >> 6)) & (warps - 1); }

// A walk over up to 32 pages, each in as many pieces as the ring takes it.
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

// Up to 32 coded pages of a warp, found by its lanes at once: only the first waits for entries and addresses.
struct PageRun {
    int64_t first_entry;
    const std::byte* record;  // of the page of this lane: lane i has the i-th
    uint32_t there;           // bit i: the i-th page is to be read
    uint32_t whole;           // bit i: every row sees all of its tokens
    PageWalk fill;            // what the ring takes next
};

KVC_DEVICE PageRun find_run(const AttendArgs& args, const ItemRows& rows, int64_t first_entry) {
    const int64_t e = first_entry + warps * simt::lane();
    Page page = {nullptr, {}};
    if (e < rows.item->n_coded) {
        page = find_coded_page(args, rows, e);
    }
    const uint32_t there = simt::ballot(page.record != nullptr);
    return {first_entry, page.record, there, simt::ballot(page.record && sees_all<4>(rows, page.tokens)), {there}};
}

template <PageKind kind>
constexpr int ring_pieces = holds_rows<kind> ? 4 : 1;

// Starts the copy of a run's next piece: a coded page, or the keys and values of sixteen rows.
template <PageKind kind, int KD, int VD>
KVC_DEVICE void fill_ring(const AttendArgs& args, PageRun* run, PageRing* ring) {
    const std::byte* const record = simt::shuffle(run->record, run->fill.page());
    if constexpr (holds_rows<kind>) {
        constexpr int key_bytes = 16 * KD * 2, value_bytes = 16 * VD * 2;
        const int piece = run->fill.piece;
        ring->fill(record + piece * key_bytes, key_bytes, record + 4 * key_bytes + piece * value_bytes, value_bytes);
    } else {
        ring->fill(record, int(args.code_bytes));
    }
    run->fill.next(ring_pieces<kind>);
}

}  // namespace kvc::cuda
