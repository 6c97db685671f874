// One kv head of one sequence, built with a kernel table: random tokens in sinks, window pages and code pages, and the same
// tokens as the table reads them back, for references that know nothing of records.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/backend/kernel_table.h"

namespace kvc_test {

using kvc::KernelTable;
using kvc::LayerFormat;
using kvc::page_tokens;
using kvc::RecordId;

LayerFormat format_of(const std::string& codec, int k_dim, int v_dim);

// Every codec the grid runs over: all presets, and pairs that presets do not have.
const std::vector<std::string>& grid_codecs();
// Whether the codec's groups divide the head dims.
bool fits(const std::string& codec, int k_dim, int v_dim);

std::vector<float> gaussian(size_t n, unsigned seed, float size = 1.0f);

// Records that are slabs of their own, so that a sanitizer sees every step beyond their end. New memory is all NaN.
class Records {
public:
    RecordId add(int64_t bytes);
    std::byte* at(RecordId id) { return memory_[id >> kvc::record_index_bits].get(); }
    kvc::ArenaView view() const { return {slabs_.data()}; }

private:
    struct Free {
        void operator()(std::byte* block) const { ::operator delete[](block, std::align_val_t{128}); }
    };
    std::vector<std::unique_ptr<std::byte[], Free>> memory_{1};
    std::vector<std::byte*> slabs_{nullptr};
};

// What the reference knows of one run of tokens: numbers, positions, and the size of one code step (0 where there are no codes).
struct Tile {
    std::vector<float> k, v;            // [64][dim]
    std::vector<float> k_step, v_step;  // [64][dim]
    double k_last = 0, v_last = 0;      // largest codes
    std::array<int64_t, page_tokens> position{};
    std::array<double, page_tokens> log_count{};  // of tokens that others joined
    uint64_t live = 0;
};

// Which tokens an item covers, and how the reference sees them.
struct Item {
    kvc::AttendItem item{};
    std::vector<Tile> tiles;
    std::vector<kvc::TokenCount> counts;
};

// Lets every third token or so, dead ones included, stand for up to 1,000.
void give_counts(Item* item, unsigned seed);

class Head {
public:
    // `pages` full pages behind the sinks, each in both forms; all tokens in the stored basis exactly as store wrote them. Numbers are
    // of a standard deviation of k_size and v_size.
    Head(const KernelTable& table, const std::string& codec, int k_dim, int v_dim, int pages, unsigned seed = 1, float k_size = 1.0f,
         float v_size = 1.0f);

    // Sinks, the pages first_coded .. coded - 1 as codes, the tokens behind them up to length n as window. The slots above n are
    // NaN. The item's query fields are left to the caller. Position of token 0: first_position().
    std::unique_ptr<Item> item_of(int64_t n, int64_t coded, int64_t first_coded = 0, bool with_sinks = true, bool with_window = true);

    // Replaces the live mask, or gives explicit positions, of page p in items made from now on.
    void set_live(int page, uint64_t live) { live_[size_t(page)] = live; }
    void set_positions(int page, const std::array<int64_t, page_tokens>& positions);
    void drop(int page) { dropped_[size_t(page)] = true; }
    void start_at(int64_t position) { first_position_ = position; }

    const LayerFormat& format() const { return format_; }
    const KernelTable& table() const { return table_; }
    Records& records() { return records_; }
    int64_t sinks() const { return format_.codec.sinks; }
    int64_t first_position() const { return first_position_; }

private:
    RecordId window_record(int page, int64_t tokens);
    Tile tile_of(KernelTable::Form form, RecordId record, int64_t first, int64_t tokens);
    kvc::PageEntry entry_of(int page, RecordId record) const;
    void give_positions(int page, Tile* tile) const;

    const KernelTable& table_;
    LayerFormat format_;
    Records records_;
    std::vector<float> k_, v_;  // [tokens][dim] as appended
    std::vector<RecordId> coded_, full_;
    std::vector<uint64_t> live_;
    std::vector<bool> dropped_;
    std::vector<RecordId> side_;
    std::vector<std::array<int64_t, page_tokens>> positions_;
    int64_t first_position_ = 0;
    std::vector<std::vector<kvc::PageEntry>> entries_;  // of the items made so far
};

// The tables that the program tests: those that this machine offers (tables.cpp), or a list of its own.
std::vector<const KernelTable*> tables_under_test();
// The program takes every n-th combination of the largest grids: 1 is all of them. Otherwise a number that shares no divisor with the
// sides of the grids, so that each codec still meets each dim, group, length and class, though not in every combination.
int grid_stride();
// Calls visit(table) for each, with the name in doctest's context.
void for_each_table(const std::function<void(const KernelTable&)>& visit);
// Whether the table has kernels for the codec; what a table leaves out is said once, with its reason.
bool offers(const KernelTable& table, const std::string& codec, int k_dim, int v_dim);
// Whether the table accumulates mass; said once if not.
bool offers_mass(const KernelTable& table);
// Whether the table adds log(count) to logits; said once if not.
bool offers_counts(const KernelTable& table);
// Whether records have the byte order of docs/FORMATS.md for CPU memory; other backends order the same codes as they like.
bool has_cpu_byte_order(const KernelTable& table);
// The portable table: the witness of all bytes.
const KernelTable& scalar();

}  // namespace kvc_test
