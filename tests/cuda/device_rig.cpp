#include "tests/cuda/device_rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

namespace kvc_test {
namespace {

constexpr uint32_t slab_records = 3;  // so that a few pages need several slabs

std::byte* allocate_host(int64_t bytes) {
    auto* const block = static_cast<std::byte*>(::operator new(size_t(bytes), std::align_val_t{256}));
    std::memset(block, 0xff, size_t(bytes));
    return block;
}

void release_host(std::byte* block) { ::operator delete(block, std::align_val_t{256}); }

}  // namespace

RigRecords::~RigRecords() {
    for (std::byte* const slab : slabs_) {
        if (slab && device_) {
            device_->release(slab);
        } else if (slab) {
            release_host(slab);
        }
    }
}

RecordId RigRecords::add(int64_t bytes) {
    auto size = std::find_if(sizes_.begin(), sizes_.end(), [&](const Size& s) { return s.bytes == bytes; });
    if (size == sizes_.end()) {
        size = sizes_.insert(sizes_.end(), {bytes, 0, slab_records});
    }
    if (size->used == slab_records) {
        std::byte* const slab = device_ ? device_->allocate(bytes * slab_records) : allocate_host(bytes * slab_records);
        REQUIRE(slab);
        slabs_.push_back(slab);
        *size = {bytes, uint32_t(slabs_.size() - 1), 0};
    }
    return size->slab << kvc::record_index_bits | size->used++;
}

Rig::Rig(std::shared_ptr<kvc::Device> device, const RigShape& shape, unsigned seed, int64_t tag)
    : device_(std::move(device)),
      shape_(shape),
      format_(format_of(shape.codec, shape.k_dim, shape.v_dim)),
      seed_(seed * 1000),
      tag_(tag),
      host_(nullptr),
      there_(device_.get()),
      tables_(size_t(shape.sequences * shape.heads)) {
    if (shape.sink_logits) {
        sink_logits_ = gaussian(size_t(q_heads()), 5);
    }
    if (shape.keys_before_rope) {
        for (int pair = 0; pair < shape.k_dim / 2; pair++) {
            frequencies_.push_back(std::pow(10000.0, -2.0 * pair / shape.k_dim));
        }
        rope_ = {frequencies_.data(), shape.k_dim, false};
    }
    for (int64_t position = 3; shape.counts && position < 1024; position += 5) {
        const auto count = int32_t(2 + position % 7);
        counts_.push_back({position, count, std::log(float(count))});
    }
}

Rig::~Rig() {
    executor_.reset();
    release_buffers();
}

RecordId Rig::add(KernelTable::Form form, int64_t bytes) {
    const RecordId id = host_.add(bytes), same = there_.add(bytes);
    REQUIRE(id == same);
    all_.push_back({id, form, bytes});
    return id;
}

// ---- planning ----

void Rig::plan(int64_t tokens) {
    length_ += tokens_;
    tokens_ = tokens;
    k_ = gaussian(size_t(rows() * shape_.heads * shape_.k_dim), ++seed_);
    v_ = gaussian(size_t(rows() * shape_.heads * shape_.v_dim), ++seed_);
    q_ = gaussian(size_t(rows() * q_heads() * shape_.k_dim), ++seed_);
    out_.assign(size_t(rows() * out_stride()), nobody_writes);
    lse_.assign(size_t(rows() * q_heads()), nobody_writes);
    host_out_ = out_;
    host_lse_ = lse_;
    plan_stores();
    plan_codes();
    run_on_host();
}

// A token goes to the sinks, then to pages of 64.
void Rig::plan_stores() {
    stores_.clear();
    const int64_t sinks = format_.codec.sinks, end = length_ + tokens_;
    for (Tables& head : tables_) {
        if (sinks > 0 && head.sinks == 0) {
            head.sinks = add(KernelTable::Form::sinks, format_.sink_bytes);
        }
        while (sinks + page_tokens * int64_t(head.coded.size() + head.window.size()) < end) {
            head.window.push_back({add(KernelTable::Form::window, format_.window_bytes), 0, kvc::all_live});
        }
    }
    for (int64_t s = 0; s < shape_.sequences; s++) {
        for (int64_t index = length_, n = 0; index < end; index += n) {
            const bool to_sinks = index < sinks;
            const int64_t page = (index - sinks) / page_tokens, slot = to_sinks ? index : (index - sinks) % page_tokens;
            n = std::min(end - index, to_sinks ? sinks - index : page_tokens - slot);
            for (int64_t h = 0; h < shape_.heads; h++) {
                const int64_t row = (s * tokens_ + index - length_) * shape_.heads + h;
                const auto offset = [&](int dim) { return reinterpret_cast<const void*>(row * dim * int64_t(sizeof(float))); };
                const Tables& head = tables(s, h);
                stores_.push_back({{&format_, offset(shape_.k_dim), offset(shape_.v_dim), kvc::Dtype::f32, shape_.heads * shape_.k_dim,
                                    shape_.heads * shape_.v_dim, n, nullptr, to_sinks, slot, false, tag_ + s, index - length_},
                                   to_sinks ? head.sinks : head.window[size_t(page - coded_pages_)].record});
            }
        }
    }
}

// All full pages but the newest are coded.
void Rig::plan_codes() {
    codes_.clear();
    const int64_t full = std::max<int64_t>(0, length_ + tokens_ - format_.codec.sinks) / page_tokens;
    for (; coded_pages_ < full - 1; coded_pages_++) {
        for (Tables& head : tables_) {
            kvc::PageEntry page = head.window.front();
            head.window.erase(head.window.begin());
            if (!format_.lossless) {
                const RecordId window = page.record;
                page.record = add(KernelTable::Form::codes, format_.code_bytes);
                codes_.emplace_back(window, page.record);
            }
            head.coded.push_back(page);
            if (shape_.dropped && head.coded.size() % 3 == 2) {
                head.coded.back().record = 0;
            }
        }
    }
}

std::vector<kvc::StoreParams> Rig::stores(const Bases& bases) const {
    std::vector<kvc::StoreParams> jobs;
    for (const Job& job : stores_) {
        kvc::StoreParams params = job.params;
        params.k = bases.k + reinterpret_cast<intptr_t>(params.k);
        params.v = bases.v + reinterpret_cast<intptr_t>(params.v);
        params.record = bases.records.at(job.record, params.sinks ? format_.sink_bytes : format_.window_bytes);
        jobs.push_back(params);
    }
    return jobs;
}

std::vector<kvc::QuantizeParams> Rig::codes(const Bases& bases) const {
    std::vector<kvc::QuantizeParams> jobs;
    for (const auto& [window, codes] : codes_) {
        jobs.push_back({&format_, bases.records.at(window, format_.window_bytes), bases.records.at(codes, format_.code_bytes)});
    }
    return jobs;
}

// Two splits: the sinks and the first half of the codes; the rest.
std::vector<kvc::AttendItem> Rig::items(const Bases& bases) const {
    std::vector<kvc::AttendItem> items;
    const int64_t sinks = format_.codec.sinks, row_floats = shape_.v_dim + 2;
    for (int64_t s = 0; s < shape_.sequences; s++) {
        for (int64_t h = 0; h < shape_.heads; h++) {
            const Tables& head = tables(s, h);
            const int64_t row = s * tokens_ * q_heads() + h * shape_.group;
            const int64_t coded = int64_t(head.coded.size()), half = coded / 2;
            kvc::AttendItem first = {};
            first.q = bases.q + row * shape_.k_dim * int64_t(sizeof(float));
            first.tokens = tokens_;
            first.first_position = length_;
            first.prompt_class = shape_.prompt_class && tokens_ > 1;
            first.state = reinterpret_cast<float*>(bases.states) + row * row_floats;
            first.state_token_stride = q_heads();
            first.rope_gap = shape_.keys_before_rope ? s : 0;
            first.counts = counts_.data();
            first.n_counts = int64_t(counts_.size());
            kvc::AttendItem second = first;
            first.sinks = head.sinks;
            first.sink_tokens = std::min(sinks, length_ + tokens_);
            first.coded = half ? head.coded.data() : nullptr;
            first.n_coded = half;
            first.coded_position = sinks;
            second.state += split_floats();
            second.coded = coded > half ? head.coded.data() + half : nullptr;
            second.n_coded = coded - half;
            second.coded_position = sinks + half * page_tokens;
            second.window = head.window.empty() ? nullptr : head.window.data();
            second.n_window = int64_t(head.window.size());
            second.window_position = sinks + coded * page_tokens;
            items.push_back(first);
            items.push_back(second);
        }
    }
    kvc::PageSum* page_sums = shape_.mass_of_pages ? bases.page_sums : nullptr;
    for (kvc::AttendItem& item : items) {
        item.page_sums = page_sums;
        page_sums += page_sums ? item.runs() * item.tokens * shape_.group : 0;
    }
    return items;
}

// Of all items of the step.
int64_t Rig::page_sum_count() const {
    int64_t count = 0;
    for (const kvc::AttendItem& item : items({host_, nullptr, nullptr, base_of(q_), nullptr, nullptr})) {
        count += item.runs() * item.tokens * shape_.group;
    }
    return count;
}

std::vector<kvc::FinishTile> Rig::tiles(const Bases& bases) const {
    std::vector<kvc::FinishTile> tiles;
    for (int64_t s = 0; s < shape_.sequences; s++) {
        const int64_t row = s * tokens_;
        const auto* const states = reinterpret_cast<const float*>(bases.states) + row * q_heads() * (shape_.v_dim + 2);
        tiles.push_back({states, tokens_, splits, split_floats(), row});
    }
    return tiles;
}

kvc::AttendParams Rig::params(const Bases& bases) const {
    return {&format_,
            {bases.records.slabs().data()},
            kvc::Dtype::f32,
            q_heads() * shape_.k_dim,
            shape_.k_dim,
            shape_.group,
            0.125f,
            shape_.soft_cap,
            INT64_MAX,
            0,
            shape_.keys_before_rope ? &rope_ : nullptr};
}

kvc::FinishCall Rig::finish_call(void* out, float* lse, float* full_lse) const {
    return {&format_, q_heads(), sink_logits_.empty() ? nullptr : sink_logits_.data(), kvc::Dtype::f32, out, out_stride(), shape_.v_dim,
            lse,      full_lse};
}

std::vector<kvc::MassItem> Rig::mass_items(const Bases& bases, const float* full_lse, std::vector<int64_t>* counters) const {
    std::vector<kvc::MassItem> all;
    std::vector<int64_t> first;
    int64_t n = 0;
    for (const kvc::AttendItem& item : items(bases)) {
        kvc::MassItem mass = {};
        mass.item = item;
        const int64_t row = int64_t(all.size()) / splits / shape_.heads * tokens_;
        mass.lse = full_lse + row * q_heads() + int64_t(all.size()) / splits % shape_.heads * shape_.group;
        mass.lse_token_stride = q_heads();
        mass.counters = int64_t(all.size()) / splits;
        first.push_back(n);
        n += shape_.mass_of_pages ? item.runs() : item.sink_tokens + page_tokens * (item.n_coded + item.n_window);
        all.push_back(mass);
    }
    counters->assign(size_t(n + 1), 0);
    for (size_t i = 0; i < all.size(); i++) {
        all[i].sinks = counters->data() + first[i];
        const kvc::AttendItem& item = all[i].item;
        all[i].coded = all[i].sinks + (shape_.mass_of_pages ? 1 : item.sink_tokens);
        all[i].window = all[i].coded + (shape_.mass_of_pages ? 1 : page_tokens) * item.n_coded;
    }
    return all;
}

// ---- the host's side: one call of the table for each job ----

void Rig::run_on_host() {
    const KernelTable& table = witness().table;
    const int64_t scratch_bytes = table.scratch_bytes(format_, shape_.group, tokens_);
    const std::unique_ptr<std::byte, void (*)(std::byte*)> scratch(allocate_host(scratch_bytes + 1), release_host);
    std::vector<float> states(size_t(splits * split_floats()), NAN);
    std::vector<kvc::PageSum> page_sums(static_cast<size_t>(page_sum_count()));
    const Bases bases = {host_, base_of(k_), base_of(v_), base_of(q_), reinterpret_cast<std::byte*>(states.data()), page_sums.data()};
    for (const kvc::StoreParams& job : stores(bases)) {
        REQUIRE(table.store(job) == -1);
    }
    for (const kvc::QuantizeParams& job : codes(bases)) {
        table.quantize(job);
    }
    for (const kvc::AttendItem& item : items(bases)) {
        table.attend(params(bases), item, scratch.get());
    }
    for (const kvc::FinishTile& tile : tiles(bases)) {
        for (int64_t i = 0; i < tile.tokens * q_heads(); i++) {
            const int64_t row = tile.first_row + i / q_heads(), head = i % q_heads();
            table.finish({&format_, tile.states + i * (shape_.v_dim + 2), tile.splits, tile.split_stride,
                          sink_logits_.empty() ? nullptr : &sink_logits_[size_t(head)], kvc::Dtype::f32,
                          host_out_.data() + row * out_stride() + head * shape_.v_dim, host_lse_.data() + row * q_heads() + head,
                          nullptr});
        }
    }
    if (shape_.mass) {
        for (const kvc::MassItem& mass : mass_items(bases, host_lse_.data(), &host_mass_)) {
            if (shape_.mass_of_pages) {
                table.page_mass(shape_.group, mass);
            } else {
                table.mass(params(bases), mass, scratch.get());
            }
        }
    }
}

}  // namespace kvc_test
