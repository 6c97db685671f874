// Which pages of an item a warp reads, and how they come: found by all lanes at once, copied ahead of the arithmetic where there are
// bulk copies.
#pragma once
#include "kernels/cuda/counts.cuh"
#include "kernels/cuda/page_ring.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// What a block's rows have in common, in its shared memory.
struct alignas(16) KeptRows {
    Sight sights[2];  // of the first row and of the last one
    int64_t n_coded;
};

// Eight query rows of an item. Between the sights of the first and of the last row lies what some see and some do not.
class ItemRows {
public:
    const AttendItem* item;
    int first_row;

    // keeps: what masked pages and every 32 pages ask for lies at `kept`, where it is read each time; otherwise in registers.
    static KVC_DEVICE ItemRows of(const AttendArgs& args, const AttendItem& item, int first_row, bool keeps, KeptRows* kept) {
        ItemRows rows{&item, first_row};
        rows.sights_[0] = sight_of(args, item, first_row);
        rows.sights_[1] = sight_of(args, item, first_row + tile_rows - 1);
        rows.keeps_ = keeps;
        rows.kept_ = kept;
        if (keeps) {
            if (simt::lane() == 0) {
                *kept = {{rows.sights_[0], rows.sights_[1]}, item.n_coded};  // every warp writes the same
            }
            simt::sync_warp();
        }
        return rows;
    }

    KVC_DEVICE Sight first() const { return sight(0); }
    KVC_DEVICE Sight last() const { return sight(1); }
    KVC_DEVICE int64_t n_coded() const { return keeps_ ? read(&kept_->n_coded) : item->n_coded; }

private:
    KVC_DEVICE Sight sight(int i) const {
        return keeps_ ? Sight{read(&kept_->sights[i].low), read(&kept_->sights[i].high)} : sights_[i];
    }
    // Such loads are not moved out of loops, nor done once for several places.
    static KVC_DEVICE int64_t read(const int64_t* number) {
        const simt::Words2 words = simt::SharedBytes::of(reinterpret_cast<const std::byte*>(number)).load_64(0);
        return int64_t(uint64_t{words.w[1]} << 32 | words.w[0]);
    }

    KVC_DEVICE ItemRows(const AttendItem* of_item, int row) : item(of_item), first_row(row) {}

    Sight sights_[2] = {};
    bool keeps_ = false;
    KeptRows* kept_ = nullptr;
};

// Whether every row sees all tokens of a run, and each stands for itself.
template <int tiles>
KVC_DEVICE bool sees_all(const ItemRows& rows, const RunTokens& run) {
    constexpr uint64_t all = all_live >> (page_tokens - 16 * tiles);
    return (run.live & all) == all && !run.positions && run.first >= rows.last().low &&
           run.first + 16 * tiles - 1 <= rows.first().high && !has_counts(*rows.item, run.first, run.first + 16 * tiles - 1);
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
    if (entry.record == 0 || (entry.side == 0 && (first > rows.last().high || first + page_tokens - 1 < rows.first().low))) {
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
    if (e < rows.n_coded()) {
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
