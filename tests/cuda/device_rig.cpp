#include "tests/cuda/device_rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

#include "kernels/simt/table.h"

namespace kvc_test {
namespace {

constexpr uint32_t slab_records = 3;  // so that a few pages need several slabs
constexpr int64_t splits = 2;
constexpr float nobody_writes = -12345.0f;

std::byte* allocate_host(int64_t bytes) {
    auto* const block = static_cast<std::byte*>(::operator new(size_t(bytes), std::align_val_t{256}));
    std::memset(block, 0xff, size_t(bytes));
    return block;
}

template <class T>
int64_t bytes_of(const std::vector<T>& values) {
    return int64_t(values.size() * sizeof(T));
}

template <class T>
const std::byte* base_of(const std::vector<T>& values) {
    return reinterpret_cast<const std::byte*>(values.data());
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

RigRecords::~RigRecords() {
    for (std::byte* const slab : slabs_) {
        if (slab && device_) {
            device_->release(slab);
        } else if (slab) {
            ::operator delete(slab, std::align_val_t{256});
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
}

Rig::~Rig() {
    executor_.reset();
    release_buffers();
}

RecordId Rig::add(int64_t bytes) {
    const RecordId id = host_.add(bytes), same = there_.add(bytes);
    REQUIRE(id == same);
    all_.emplace_back(id, bytes);
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
            head.sinks = add(format_.sink_bytes);
        }
        while (sinks + page_tokens * int64_t(head.coded.size() + head.window.size()) < end) {
            head.window.push_back({add(format_.window_bytes), 0, kvc::all_live});
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
                page.record = add(format_.code_bytes);
                codes_.emplace_back(window, page.record);
            }
            head.coded.push_back(page);
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
            first.state = reinterpret_cast<float*>(bases.states) + row * row_floats;
            first.state_token_stride = q_heads();
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
    return items;
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
    return {&format_,        {bases.records.slabs().data()},
            kvc::Dtype::f32, q_heads() * shape_.k_dim,
            shape_.k_dim,    shape_.group,
            0.125f,          shape_.soft_cap,
            INT64_MAX,       0};
}

kvc::FinishCall Rig::finish_call(void* out, float* lse) const {
    return {&format_, q_heads(), sink_logits_.empty() ? nullptr : sink_logits_.data(), kvc::Dtype::f32, out, out_stride(), shape_.v_dim,
            lse,      nullptr};
}

// ---- the host's side: one call of the table for each job ----

void Rig::run_on_host() {
    const KernelTable& table = *kvc::simt::cuda_table();
    std::vector<float> states(size_t(splits * split_floats()), NAN);
    const Bases bases = {host_, base_of(k_), base_of(v_), base_of(q_), reinterpret_cast<std::byte*>(states.data())};
    for (const kvc::StoreParams& job : stores(bases)) {
        REQUIRE(table.store(job) == -1);
    }
    for (const kvc::QuantizeParams& job : codes(bases)) {
        table.quantize(job);
    }
    for (const kvc::AttendItem& item : items(bases)) {
        table.attend(params(bases), item, nullptr);
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
}

// ---- the device's side ----

void Rig::release_buffers() {
    for (std::byte*& buffer : buffers_) {
        if (buffer) {
            device_->release(buffer);
        }
        buffer = nullptr;
    }
}

kvc::Status Rig::allocate_buffers() {
    release_buffers();
    const std::vector<float>* const values[5] = {&k_, &v_, &q_, &out_, &lse_};
    for (size_t i = 0; i < 5; i++) {
        buffers_[i] = device_->allocate(bytes_of(*values[i]));
        if (!buffers_[i]) {
            return kvc::fail(kvc::Code::no_memory, "no device memory");
        }
        KVC_TRY(device_->write(buffers_[i], base_of(*values[i]), bytes_of(*values[i])));
    }
    return {};
}

void Rig::spoil(int64_t sequence, int64_t token, int64_t head) {
    k_[size_t(((sequence * tokens_ + token) * shape_.heads + head) * shape_.k_dim + 3)] = NAN;
}

kvc::Status Rig::begin(void* stream) {
    if (shape_.device_buffers) {
        KVC_TRY(allocate_buffers());
    }
    int64_t entries = 0;
    for (const Tables& head : tables_) {
        entries += int64_t(head.coded.size() + head.window.size());
    }
    kvc::DeviceStep step;
    step.stream = stream;
    step.device_buffers = shape_.device_buffers;
    step.slabs = there_.slabs().data();
    step.slab_count = int64_t(there_.slabs().size());
    step.store_jobs = int64_t(stores_.size());
    step.quantize_jobs = int64_t(codes_.size());
    step.items = splits * shape_.sequences * shape_.heads;
    step.entries = entries;
    step.tiles = shape_.sequences;
    step.state_floats = splits * split_floats();
    step.in_bytes = std::max(bytes_of(k_) + bytes_of(v_), bytes_of(q_)) + 512;
    step.out_bytes = bytes_of(out_) + bytes_of(lse_) + 512;
    kvc::Result<std::unique_ptr<kvc::DeviceExecutor>> executor = device_->begin(step);
    if (!executor.ok()) {
        return executor.status();
    }
    executor_ = std::move(*executor);
    return {};
}

kvc::Status Rig::append() {
    executor_->start();
    const void* const from[2] = {shape_.device_buffers ? static_cast<const void*>(buffers_[0]) : k_.data(),
                                 shape_.device_buffers ? static_cast<const void*>(buffers_[1]) : v_.data()};
    const kvc::Result<const void*> k = executor_->input(from[0], bytes_of(k_));
    if (!k.ok()) {
        return k.status();
    }
    const kvc::Result<const void*> v = executor_->input(from[1], bytes_of(v_));
    if (!v.ok()) {
        return v.status();
    }
    const Bases bases = {there_, static_cast<const std::byte*>(*k), static_cast<const std::byte*>(*v), nullptr, nullptr};
    const std::vector<kvc::StoreParams> store_jobs = stores(bases);
    const std::vector<kvc::QuantizeParams> code_jobs = codes(bases);
    const kvc::AppendGroup all = {0, int64_t(store_jobs.size()), 0, int64_t(code_jobs.size())};
    const kvc::Result<kvc::BadToken> bad = executor_->append(store_jobs, code_jobs, {&all, 1});
    if (!bad.ok()) {
        return bad.status();
    }
    CHECK(bad->job == -1);
    return {};
}

kvc::Status Rig::attend() {
    executor_->start();
    const bool there = shape_.device_buffers;
    const kvc::Result<const void*> q = executor_->input(there ? static_cast<const void*>(buffers_[2]) : q_.data(), bytes_of(q_));
    if (!q.ok()) {
        return q.status();
    }
    const kvc::Result<void*> out = executor_->output(there ? static_cast<void*>(buffers_[3]) : out_.data(), bytes_of(out_));
    if (!out.ok()) {
        return out.status();
    }
    const kvc::Result<void*> lse = executor_->output(there ? static_cast<void*>(buffers_[4]) : lse_.data(), bytes_of(lse_));
    if (!lse.ok()) {
        return lse.status();
    }
    const Bases bases = {there_, nullptr, nullptr, static_cast<const std::byte*>(*q),
                         reinterpret_cast<std::byte*>(executor_->states())};
    const kvc::AttendParams common = params(bases);
    const std::vector<kvc::AttendItem> all = items(bases);
    const std::vector<const kvc::AttendParams*> params(all.size(), &common);
    KVC_TRY(executor_->attend(params, all));
    KVC_TRY(executor_->finish(finish_call(*out, static_cast<float*>(*lse)), tiles(bases)));
    return executor_->deliver();
}

kvc::Status Rig::run(void* stream) {
    KVC_TRY(begin(stream));
    KVC_TRY(append());
    KVC_TRY(attend());
    end();
    return {};
}

kvc::Status Rig::fetch() {
    if (!shape_.device_buffers) {
        return {};
    }
    KVC_TRY(device_->read(buffers_[3], reinterpret_cast<std::byte*>(out_.data()), bytes_of(out_)));
    return device_->read(buffers_[4], reinterpret_cast<std::byte*>(lse_.data()), bytes_of(lse_));
}

void Rig::check_outputs() {
    CHECK(same_bits(out_, host_out_));
    CHECK(same_bits(lse_, host_lse_));
    CHECK(std::isfinite(out_[0]));
    CHECK(out_[0] != nobody_writes);
}

void Rig::check_records() {
    for (const auto& [id, bytes] : all_) {
        std::vector<std::byte> there(static_cast<size_t>(bytes));
        REQUIRE(device_->read(there_.at(id, bytes), there.data(), bytes).ok());
        REQUIRE(std::memcmp(there.data(), host_.at(id, bytes), size_t(bytes)) == 0);
    }
}

}  // namespace kvc_test
