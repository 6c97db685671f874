// Repacking: the live tokens of sparse coded pages gathered into fuller ones.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/kernel_table.h"
#include "core/store/arena.h"

namespace kvc {

// A token that others join: where it lies, and its new numbers in the basis of append.
struct FoldedToken {
    KernelTable::Form form;
    size_t entry;
    int slot;
    int64_t position;
    int64_t count;  // of tokens that it stands for from now on
    bool new_key;   // otherwise k is what it was
    std::vector<float> k, v;
    const float* row = nullptr;  // on a device: k, then v, in its memory
};

struct RepackedToken {
    size_t entry;
    int slot;
    int64_t position;
};

struct RepackedPage {
    std::vector<RepackedToken> tokens;  // up to 64, ascending
    size_t entry = 0;                   // of the table that it takes
    std::vector<std::byte> bytes;       // the new record; empty where a device makes it
    RecordId record = 0, side = 0;      // where it will lie
    int64_t round = 0;                  // of the device's jobs (RecodeParams)
    const std::byte* held = nullptr;    // in a device's memory, until there is a record for it
};

// Page i of a group takes the table entry of the group's source i: the first i sources hold at most 64 i tokens, so no token of it
// belongs to an earlier page. Cutting a sequence at a page therefore never loses a token that lies below the cut.
struct RepackPlan {
    std::vector<size_t> sources;  // entries whose tokens move, ascending
    std::vector<size_t> ends;     // of the groups of sources that are gathered together, each into pages of its own
    std::vector<RepackedPage> pages;
    int64_t tokens = 0;
    int64_t rung = 0;  // of the new pages: the lowest that a source is at, so that no record grows
};

// Code records that a head may hold for so many live coded tokens. A token that moves bit for bit costs a copy, so that pages are kept
// eight ninths full; one that is coded anew loses a little each time, so that half is enough.
int64_t record_bound(const LayerFormat& format, int64_t live);
// Sources after which the bound holds; none if it holds already. Tokens that move bit for bit: the emptiest pages, all together, which
// copies least. Tokens that are coded anew: neighbours, of which each group fits into one page, those with the fewest tokens first. So
// survivors of an age stay among themselves, and what is kept for long is not coded again with every young page that empties.
RepackPlan plan_repack(const LayerFormat& format, std::span<const PageEntry> coded, std::span<const uint64_t> live);

struct RepackInput {
    const KernelTable& kernels;
    const Arena& arena;
    const LayerFormat& format;
    std::span<const PageEntry> coded;
    std::span<const uint64_t> live;
    int64_t first_position;                   // of slot 0 of entry 0
    std::span<const FoldedToken> folded;      // of the head; those in coded pages count
    std::span<const LayerFormat> lower = {};  // rungs below `format`

    int64_t rung_of(size_t entry) const;
    const LayerFormat& rung(int64_t r) const { return r == 0 ? format : lower[size_t(r - 1)]; }
};

// Chooses the tokens of the new pages, and their rung.
void choose_tokens(const RepackInput& input, RepackPlan* plan);
// The tokens of one page as it is coded anew where it lies: slots of dead tokens repeat a live one, so that they widen no group's range.
std::vector<RepackedToken> page_of_live(size_t entry, uint64_t live);
// Computes the bytes of the new pages. Parts coded per token move as they are; parts coded per channel are decoded and coded once more.
void fill_repack(const RepackInput& input, RepackPlan* plan);
// The code record of one page in which tokens are folded: coded once however many they are, and what did not change moves as it is.
std::vector<std::byte> fill_folded(const RepackInput& input, size_t entry);

}  // namespace kvc
