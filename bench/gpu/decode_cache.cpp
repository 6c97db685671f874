#include "bench/gpu/decode_cache.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

#include "core/base/half.h"
#include "core/codec/canonical.h"

namespace kvc_bench {
namespace {

using kvc::page_tokens;

constexpr int64_t slab_records = int64_t{1} << kvc::record_index_bits;
constexpr int64_t pattern_pages = 64;  // divides slab_records, so that a record's place tells its pattern
constexpr int64_t l2_times = 4;        // how much larger than the L2 cache all layers together are

std::vector<uint16_t> gaussian_halves(int64_t n, std::mt19937* random) {
    std::normal_distribution<float> normal;
    std::vector<uint16_t> x(static_cast<size_t>(n));
    for (uint16_t& v : x) {
        v = kvc::f16_from_f32(normal(*random));
    }
    return x;
}

// The entries of all heads: records first, first + 1, ... in random order.
std::vector<kvc::PageEntry> shuffled_entries(kvc::RecordId first, int64_t n, std::mt19937* random) {
    std::vector<kvc::PageEntry> entries(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; i++) {
        entries[size_t(i)].record = first + kvc::RecordId(i);
    }
    std::shuffle(entries.begin(), entries.end(), *random);
    return entries;
}

int64_t pattern_of(kvc::RecordId record) { return record % pattern_pages; }

}  // namespace

DecodeCache::DecodeCache(const kvc::LayerFormat& format, const Shape& shape, int64_t l2_bytes, int64_t layers_at_least)
    : format_(format), shape_(shape) {
    const int64_t behind_sinks = shape.context - shape.new_tokens - format.codec.sinks;
    coded_pages_ = std::max(int64_t{0}, behind_sinks - format.codec.window) / page_tokens;
    layers_ = std::max(layers_at_least, (l2_times * l2_bytes + bytes_read() - 1) / bytes_read());
    make_patterns();
    const int64_t lists = layers_ * shape.batch * shape.kv_heads;
    std::mt19937 random(7);
    coded_ = shuffled_entries(first_coded_, lists * coded_pages_, &random);
    window_ = shuffled_entries(first_window_, lists * window_pages(), &random);
    coded_list_ = on_device(coded_);
    window_list_ = on_device(window_);
    slab_list_ = on_device(slab_addresses_);
    wait_for_device();
}

int64_t DecodeCache::bytes_read() const {
    const int64_t token_bytes = int64_t{format_.k_dim + format_.v_dim} * 2;
    return shape_.batch * shape_.kv_heads * (coded_pages_ * format_.code_bytes + (window_tokens() + format_.codec.sinks) * token_bytes);
}

// Slabs that hold the patterns in turn; a slab is filled by doubling what it holds.
kvc::RecordId DecodeCache::add_records(const Memory& pattern, int64_t patterns, int64_t record_bytes, int64_t n) {
    const auto first = kvc::RecordId(slab_addresses_.size() << kvc::record_index_bits);
    for (int64_t done = 0; done < n; done += slab_records) {
        const int64_t records = std::min(slab_records, n - done);
        slabs_.emplace_back(records * record_bytes);
        std::byte* const slab = slabs_.back().data();
        slab_addresses_.push_back(slab);
        const int64_t whole = std::min(patterns, records);
        copy_on_device(slab, pattern.data(), whole * record_bytes);
        for (int64_t held = whole; held < records; held *= 2) {
            copy_on_device(slab + held * record_bytes, slab, std::min(held, records - held) * record_bytes);
        }
    }
    return first;
}

void DecodeCache::make_patterns() {
    std::mt19937 random(1);
    const kvc::LayerFormat& f = format_;
    const Memory rows(pattern_pages * f.window_bytes), codes(pattern_pages * f.code_bytes), sinks(std::max<int64_t>(f.sink_bytes, 1));
    const Memory k = on_device(gaussian_halves(pattern_pages * page_tokens * f.k_dim, &random));
    const Memory v = on_device(gaussian_halves(pattern_pages * page_tokens * f.v_dim, &random));
    const Memory first_bad = on_device(std::vector<unsigned long long>{~0ull});
    std::vector<PageJob> jobs;
    std::vector<kvc::StoreParams> stores;
    for (int64_t page = 0; page < pattern_pages; page++) {
        const int64_t token = page * page_tokens;
        stores.push_back({&f, k.data() + token * f.k_dim * 2, v.data() + token * f.v_dim * 2, kvc::Dtype::f16, f.k_dim, f.v_dim,
                          page_tokens, rows.data() + page * f.window_bytes, false, 0, false});
        jobs.push_back({stores.back().record, codes.data() + page * f.code_bytes});
    }
    const StoreJobs pages(stores, first_bad.as<unsigned long long>());
    pages.launch(0, pattern_pages);
    const Memory job_list = on_device(jobs);
    if (!f.lossless) {
        launch_quantize(f, job_list.as<PageJob>(), int(jobs.size()));
    }
    if (f.codec.sinks) {
        const StoreJobs sink_tokens(
            {{&f, k.data(), v.data(), kvc::Dtype::f16, f.k_dim, f.v_dim, f.codec.sinks, sinks.data(), true, 0, false}},
            first_bad.as<unsigned long long>());
        sink_tokens.launch(0, 1);
        wait_for_device();
    }
    unsigned long long bad = 0;
    from_device(&bad, first_bad.data(), sizeof bad);
    if (bad != ~0ull) {
        std::fprintf(stderr, "store refused token %llu of numbers that can all be stored\n", bad);
        std::exit(EXIT_FAILURE);
    }
    const int64_t lists = layers_ * shape_.batch * shape_.kv_heads;
    first_coded_ = add_records(f.lossless ? rows : codes, pattern_pages, f.code_bytes, lists * coded_pages_);
    first_window_ = add_records(rows, pattern_pages, f.window_bytes, lists * window_pages());
    first_sinks_ = f.codec.sinks ? add_records(sinks, 1, f.sink_bytes, lists) : 0;
    read_patterns(rows, codes, sinks);
}

void DecodeCache::read_patterns(const Memory& rows, const Memory& codes, const Memory& sinks) {
    const kvc::LayerFormat& f = format_;
    const auto read_rows = [&f](const std::byte* record, int64_t tokens, std::vector<float>* k, std::vector<float>* v) {
        const auto* const halves = reinterpret_cast<const uint16_t*>(record);
        const auto number = [&f](uint16_t bits) { return f.bf16_window ? kvc::f32_from_bf16(bits) : kvc::f32_from_f16(bits); };
        for (int64_t i = 0; i < tokens * (f.k_dim + f.v_dim); i++) {
            (i < tokens * f.k_dim ? k : v)->push_back(number(halves[i]));
        }
    };
    std::vector<std::byte> record(size_t(std::max({f.window_bytes, f.code_bytes, f.sink_bytes})));
    for (int64_t page = 0; page < pattern_pages; page++) {
        from_device(record.data(), rows.data() + page * f.window_bytes, f.window_bytes);
        read_rows(record.data(), page_tokens, &patterns_.row_k.emplace_back(), &patterns_.row_v.emplace_back());
        if (!f.lossless) {
            from_device(record.data(), codes.data() + page * f.code_bytes, f.code_bytes);
            patterns_.code_k.emplace_back(size_t(page_tokens * f.k_dim));
            patterns_.code_v.emplace_back(size_t(page_tokens * f.v_dim));
            read_codes(f, record.data(), patterns_.code_k.back().data(), patterns_.code_v.back().data());
        }
    }
    if (f.lossless) {
        patterns_.code_k = patterns_.row_k;
        patterns_.code_v = patterns_.row_v;
    }
    if (f.codec.sinks) {
        from_device(record.data(), sinks.data(), f.sink_bytes);
        read_rows(record.data(), f.codec.sinks, &patterns_.sink_k, &patterns_.sink_v);
    }
    const auto out_of_stored_basis = [](std::vector<float>* part, int dim) {
        for (size_t at = 0; at < part->size(); at += size_t(dim)) {
            kvc::rotate(part->data() + at, dim);
        }
    };
    for (size_t page = 0; page < size_t(pattern_pages); page++) {
        if (f.codec.k.rotate) {
            out_of_stored_basis(&patterns_.code_k[page], f.k_dim);
            out_of_stored_basis(&patterns_.row_k[page], f.k_dim);
        }
        if (f.codec.v.rotate) {
            out_of_stored_basis(&patterns_.code_v[page], f.v_dim);
            out_of_stored_basis(&patterns_.row_v[page], f.v_dim);
        }
    }
    if (f.codec.k.rotate) {
        out_of_stored_basis(&patterns_.sink_k, f.k_dim);
    }
    if (f.codec.v.rotate) {
        out_of_stored_basis(&patterns_.sink_v, f.v_dim);
    }
}

DecodeCache::Head DecodeCache::head(int64_t layer, int64_t sequence, int kv_head) const {
    const int64_t list = list_index(layer, sequence, kv_head);
    return {coded_list_.as<kvc::PageEntry>() + list * coded_pages_, window_list_.as<kvc::PageEntry>() + list * window_pages(),
            first_sinks_ ? first_sinks_ + kvc::RecordId(list) : 0};
}

int64_t DecodeCache::coded_pattern(int64_t layer, int64_t sequence, int kv_head, int64_t page) const {
    return pattern_of(coded_[size_t(list_index(layer, sequence, kv_head) * coded_pages_ + page)].record);
}

int64_t DecodeCache::window_pattern(int64_t layer, int64_t sequence, int kv_head, int64_t page) const {
    return pattern_of(window_[size_t(list_index(layer, sequence, kv_head) * window_pages() + page)].record);
}

}  // namespace kvc_bench
