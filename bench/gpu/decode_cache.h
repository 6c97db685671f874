// A layer's cache on the device, filled as a long generation leaves it: records of random tokens, stored and quantized by the kernels
// themselves, in an order of records that has nothing to do with the order of tokens.
//
// The records repeat a few pages over and over, each copy at an address of its own; there are as many copies of the whole cache (layers)
// as it takes to be several times larger than the L2 cache, and steps take them in turn.
#pragma once
#include <string>
#include <vector>

#include "bench/gpu/device.h"
#include "bench/gpu/launches.h"

namespace kvc_bench {

struct Shape {
    std::string name;
    int64_t batch, context;
    int kv_heads, group, head_dim;
    int64_t new_tokens = 0;  // the last tokens of the context, when they are a prompt's: all of them lie in 16 bits
};

// The pages that all others are copies of, as they are stored, out of the rotated basis: what the reference attends to.
struct PatternPages {
    std::vector<std::vector<float>> code_k, code_v;  // [page][64 * dim]
    std::vector<std::vector<float>> row_k, row_v;    // the same pages in 16 bits
    std::vector<float> sink_k, sink_v;
};

class DecodeCache {
public:
    DecodeCache(const kvc::LayerFormat& format, const Shape& shape, int64_t l2_bytes, int64_t layers_at_least);

    const kvc::LayerFormat& format() const { return format_; }
    const Shape& shape() const { return shape_; }
    int64_t layers() const { return layers_; }
    kvc::ArenaView arena() const { return {slab_list_.as<std::byte*>()}; }
    const PatternPages& patterns() const { return patterns_; }

    int64_t coded_pages() const { return coded_pages_; }
    int64_t window_tokens() const { return shape_.context - format_.codec.sinks - coded_pages_ * kvc::page_tokens; }
    int64_t window_pages() const { return (window_tokens() + kvc::page_tokens - 1) / kvc::page_tokens; }
    // Bytes of the records of one layer that a step must read.
    int64_t bytes_read() const;

    // Of (layer, sequence, kv head): its lists of entries on the device, its sinks, and which pattern each page is a copy of.
    struct Head {
        const kvc::PageEntry* coded;
        const kvc::PageEntry* window;
        kvc::RecordId sinks;
    };
    Head head(int64_t layer, int64_t sequence, int kv_head) const;
    int64_t coded_pattern(int64_t layer, int64_t sequence, int kv_head, int64_t page) const;
    int64_t window_pattern(int64_t layer, int64_t sequence, int kv_head, int64_t page) const;

private:
    kvc::RecordId add_records(const Memory& pattern, int64_t patterns, int64_t record_bytes, int64_t n);
    void make_patterns();
    void read_patterns(const Memory& rows, const Memory& codes, const Memory& sinks);
    int64_t list_index(int64_t layer, int64_t sequence, int kv_head) const {
        return (layer * shape_.batch + sequence) * shape_.kv_heads + kv_head;
    }

    kvc::LayerFormat format_;
    Shape shape_;
    int64_t layers_ = 0, coded_pages_ = 0;
    PatternPages patterns_;
    std::vector<Memory> slabs_;
    std::vector<std::byte*> slab_addresses_{nullptr};  // slab 0 is never given out
    std::vector<kvc::PageEntry> coded_, window_;       // the lists of all heads, one after the other
    kvc::RecordId first_coded_ = 0, first_window_ = 0, first_sinks_ = 0;
    Memory slab_list_{0}, coded_list_{0}, window_list_{0};
};

}  // namespace kvc_bench
