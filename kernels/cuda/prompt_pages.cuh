// The pages of an item in the order of their positions, as the block of a prompt kernel walks them, and their way into its tiles.
#pragma once
#include "kernels/cuda/counts.cuh"
#include "kernels/cuda/prompt_rows.cuh"
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/turn.cuh"

namespace kvc::cuda {

// What a launch of a prompt kernel reads beyond AttendArgs.
struct PromptArgs {
    AttendArgs attend;
    CodedForm form;
    int sink_capacity;
    // Of the general kernels alone:
    bool bf16;  // rows are bf16
    Rope rope;  // dims 0: nothing turns

    KVC_DEVICE bool coded_rows() const { return form.k_bits == 16; }
};

// One page: sinks, codes or rows.
struct PromptPage {
    const std::byte* record;  // nullptr: dropped, or out of sight of all rows of the block
    RunTokens tokens;
    uint64_t present;  // of rows: what was written
    int capacity;      // of rows: how many the record has room for; 0: the record holds codes
    bool sinks;
    bool end;           // the item has no such page, nor any behind it
    int64_t* counters;  // of the tokens' mass, or nullptr
    int run;            // which of the item's runs it is
};

// One block's shared memory, which the launch provides.
template <int KD, int VD, int tiles>
struct PromptShared {
    static constexpr int rows = warps * tiles * 16;        // of a block
    static constexpr int listed = KD + VD > 384 ? 8 : 32;  // pages that it looks up at once
    static constexpr int keys = 0;
    static constexpr int values = keys + tile_bytes(KD);
    static constexpr int queries = values + tile_bytes(VD);
    static constexpr int facts = queries + rows * KD * 2;
    static constexpr int pages = facts + rows * int(sizeof(RowFacts));
    static constexpr int bias = pages + listed * int(sizeof(PromptPage));
    static constexpr int lifts = bias + page_tokens * int(sizeof(float));
    static constexpr int sums = lifts + 2 * warps * int(sizeof(float));
    // With one tile they are in registers, where there is room.
    static constexpr int bytes = sums + (VD > 0 && tiles > 1 ? threads * tiles * int(sizeof(RowSums)) : 0);
    static_assert(bytes <= block_shared_max);
};

struct BlockSight {
    Sight first, last;  // of the block's first and last row: between them lies what some see and some do not
};

// Rows of the tokens first .. first + 63 that some row may see: nothing beyond need have been written.
KVC_DEVICE uint64_t written_until(int64_t first, int64_t last) {
    const int64_t n = last - first + 1;
    return n <= 0 ? 0 : n >= page_tokens ? all_live : all_live >> (page_tokens - n);
}

KVC_DEVICE PromptPage sinks_page(const PromptArgs& args, const AttendItem& item, const MassItem* mass, const BlockSight& sight) {
    const uint64_t live = all_live >> (page_tokens - item.sink_tokens);
    const uint64_t present = live & written_until(item.sinks_position, sight.last.high);
    return {present ? record_address(args.attend, item.sinks, args.attend.sink_bytes) : nullptr,
            {item.sinks_position, nullptr, live},
            present,
            args.sink_capacity,
            true,
            false,
            mass ? mass->sinks : nullptr,
            0};
}

// 1 or 0, without a branch: sinks may be there and hold nothing.
KVC_DEVICE int sinks_pages(const AttendItem& item) { return int(item.sinks != 0) & int(item.sink_tokens != 0); }

// mass: where the item's counters are, or nullptr.
KVC_DEVICE PromptPage find_prompt_page(const PromptArgs& args, const AttendItem& item, const MassItem* mass, const BlockSight& sight,
                                       int64_t i) {
    if (sinks_pages(item) != 0) {
        if (i == 0) {
            return sinks_page(args, item, mass, sight);
        }
        i--;
    }
    if (i >= item.n_coded + item.n_window) {
        PromptPage none{};
        none.end = true;
        return none;
    }
    const bool window = i >= item.n_coded;
    const int64_t e = window ? i - item.n_coded : i;
    const PageEntry* const entry = (window ? item.window : item.coded) + e;
    const int64_t first = (window ? item.window_position : item.coded_position) + page_tokens * e;
    const bool seen = entry->side != 0 || (first <= sight.last.high && first + page_tokens - 1 >= sight.first.low);
    if (entry->record == 0 || entry->live == 0 || !seen) {
        return {};
    }
    PromptPage page{nullptr,
                    {first, nullptr, entry->live},
                    all_live,
                    window || args.coded_rows() ? page_tokens : 0,
                    false,
                    false,
                    mass ? (window ? mass->window : mass->coded) + page_tokens * e : nullptr,
                    1 + int(i)};
    if (entry->side) {
        page.tokens.positions = reinterpret_cast<const PageSide*>(record_address(args.attend, entry->side, side_bytes))->positions;
    }
    if (window) {
        page.present = entry->live & (entry->side ? all_live : written_until(first, sight.last.high));
    }
    page.record = record_address(args.attend, entry->record, window ? args.attend.window_bytes : args.attend.code_bytes);
    return page;
}

// By all warps of the block, which then synchronizes.
template <int KD>
KVC_DEVICE void fill_keys(const PromptArgs& args, const PromptPage& page, std::byte* tile) {
    if (page.capacity > 0) {
        fill_row_keys<KD>(page.record, page.present, tile);
    } else {
        fill_coded_keys<KD>(page.record, args.form, tile);
    }
}

constexpr uint32_t halves_of_one = 0x3c003c00u, halves_of_half = 0x38003800u;

// What a number 1 in a tile of keys stands for. Values of coded formats are in units of coded_unit, whatever the page.
KVC_DEVICE float key_unit(const PromptPage& page) { return page.capacity > 0 ? 1.0f : coded_unit; }
KVC_DEVICE float value_unit(const PromptArgs& args) { return args.coded_rows() ? 1.0f : coded_unit; }

template <int KD, int VD>
KVC_DEVICE void fill_values(const PromptArgs& args, const PromptPage& page, std::byte* tile) {
    if (page.capacity > 0) {
        fill_row_values<VD>(page.record + page.capacity * KD * 2, page.present, args.coded_rows() ? halves_of_one : halves_of_half,
                            tile);
    } else {
        fill_coded_values<VD>(page.record, args.form, tile);
    }
}

// What counts add to the logits over ln 2 of a page's tokens. By all threads of the block.
KVC_DEVICE void fill_bias(const AttendItem& item, const RunTokens& tokens, float* bias) {
    const int t = simt::thread_anew();
    if (t < page_tokens) {
        const int64_t position = tokens.positions && (tokens.live >> t & 1) ? tokens.positions[t] : tokens.first + t;
        bias[t] = log_count_at(item, position) * log2_e;
    }
}

template <int tiles>
KVC_DEVICE void add_bias(int lane, const float* bias, float (&x)[tiles][8][4]) {
    // No bit changes where no count weighs.
    if (!simt::any(bias[lane] != 0.0f || bias[lane + 32] != 0.0f)) {
        return;
    }
    KVC_UNROLL
    for (int i = 0; i < 16; i++) {
        const float more = bias[8 * (i / 2) + 2 * (lane % 4) + i % 2];
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            x[m][i / 2][i % 2] += more;
            x[m][i / 2][2 + i % 2] += more;
        }
    }
}

}  // namespace kvc::cuda
