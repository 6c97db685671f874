// Repacking: the live tokens of the emptiest coded pages gathered into full ones.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/kernel_table.h"
#include "core/store/arena.h"

namespace kvc {

struct RepackedToken {
    size_t entry;
    int slot;
    int64_t position;
};

struct RepackedPage {
    std::vector<RepackedToken> tokens;  // up to 64, ascending
    std::vector<std::byte> bytes;       // the new record
    RecordId record = 0, side = 0;      // where it will lie
};

// Page i takes the table entry of sources[i]: the first i sources hold at most 64 i tokens, so no token of it belongs to an earlier
// page. Cutting a sequence at a page therefore never loses a token that lies below the cut.
struct RepackPlan {
    std::vector<size_t> sources;  // entries whose tokens move, ascending
    std::vector<RepackedPage> pages;
    int64_t tokens = 0;
};

// Code records that a head may hold for so many live coded tokens. A token that moves bit for bit costs a copy, so that pages are kept
// eight ninths full; one that is coded anew loses a little each time, so that half is enough.
int64_t record_bound(const LayerFormat& format, int64_t live);
// The fewest sources (emptiest first) after which the bound holds; none if it holds already.
RepackPlan plan_repack(const LayerFormat& format, std::span<const PageEntry> coded, std::span<const uint64_t> live);

struct RepackInput {
    const KernelTable& kernels;
    const Arena& arena;
    const LayerFormat& format;
    std::span<const PageEntry> coded;
    std::span<const uint64_t> live;
    int64_t first_position;  // of slot 0 of entry 0
};

// Chooses the tokens of the new pages and computes their bytes. Parts coded per token move as they are; parts coded per channel are
// decoded and coded once more.
void fill_repack(const RepackInput& input, RepackPlan* plan);

}  // namespace kvc
