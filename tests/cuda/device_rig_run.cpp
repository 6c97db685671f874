// The device's side of a rig, and what it must agree with.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

#include "tests/cuda/device_rig.h"

namespace kvc_test {
namespace {

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Gaps are the same number on both sides and add nothing.
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0, energy = 0;
    for (size_t i = 0; i < a.size(); i++) {
        error += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
        energy += b[i] == nobody_writes ? 0 : double(b[i]) * double(b[i]);
    }
    return std::sqrt(error / energy);
}

}  // namespace

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
    step.entries = step.kept_entries = entries;
    step.tiles = shape_.sequences;
    step.state_floats = splits * split_floats();
    step.in_bytes = std::max(bytes_of(k_) + bytes_of(v_), bytes_of(q_)) + 512;
    step.lse_floats = shape_.mass ? rows() * q_heads() : 0;
    step.page_sums = shape_.mass_of_pages ? page_sum_count() : 0;
    step.out_bytes = bytes_of(out_) + bytes_of(lse_) + 512;
    kvc::Result<std::unique_ptr<kvc::DeviceExecutor>> executor = device_->begin(step);
    if (!executor.ok()) {
        return executor.status();
    }
    executor_ = std::move(*executor);
    return {};
}

kvc::Status Rig::append() {
    executor_->start(0);
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
    executor_->start(0);
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
    const Bases bases = {there_,
                         nullptr,
                         nullptr,
                         static_cast<const std::byte*>(*q),
                         reinterpret_cast<std::byte*>(executor_->states()),
                         executor_->page_sums()};
    const kvc::AttendParams common = params(bases);
    const std::vector<kvc::AttendItem> all = items(bases);
    const std::vector<const kvc::AttendParams*> params(all.size(), &common);
    KVC_TRY(executor_->attend(params, all));
    float* const full_lse = shape_.mass ? executor_->lse() : nullptr;
    KVC_TRY(executor_->finish(finish_call(*out, static_cast<float*>(*lse), full_lse), tiles(bases)));
    if (shape_.mass) {
        const std::vector<kvc::MassItem> masses = mass_items(bases, full_lse, &mass_);
        for (int64_t i = 0; i < shape_.mass; i++) {
            KVC_TRY(shape_.mass_of_pages ? executor_->page_mass(shape_.group, masses) : executor_->mass(params, masses));
        }
    }
    return executor_->deliver();
}

kvc::Status Rig::run(void* stream) {
    KVC_TRY(begin(stream));
    KVC_TRY(append());
    KVC_TRY(attend());
    if (shape_.mass) {
        std::vector<kvc::BadStore> bad;
        KVC_TRY(device_->synchronize(&bad));
    }
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
    if (witness().tolerance == 0) {
        CHECK(same_bits(out_, host_out_));
        CHECK(same_bits(lse_, host_lse_));
    } else {
        CHECK(relative_error(out_, host_out_) <= witness().tolerance);
        CHECK(relative_error(lse_, host_lse_) <= witness().tolerance);
    }
    for (int64_t row = 0; row < rows(); row++) {
        for (int64_t i = q_heads() * shape_.v_dim; i < out_stride() && row + 1 < rows(); i++) {
            CHECK(out_[size_t(row * out_stride() + i)] == nobody_writes);
        }
    }
    if (shape_.mass && witness().tolerance == 0) {
        std::vector<int64_t> expected = host_mass_;
        for (int64_t& counter : expected) {
            counter *= shape_.mass;
        }
        CHECK(mass_ == expected);
        CHECK(*std::max_element(mass_.begin(), mass_.end()) > 0);
    }
    CHECK(std::isfinite(out_[0]));
    CHECK(out_[0] != nobody_writes);
}

// Slots that nobody wrote hold the NaN of new memory on the host's side, and anything on the device's.
void Rig::check_records() {
    const KernelTable& there = device_->records();
    for (const Kept& record : all_) {
        std::vector<std::byte> copy(static_cast<size_t>(record.bytes));
        REQUIRE(device_->read(there_.at(record.id, record.bytes), copy.data(), record.bytes).ok());
        std::vector<float> k[2], v[2];
        for (int side = 0; side < 2; side++) {
            k[side].assign(size_t(page_tokens * shape_.k_dim), 0.0f);
            v[side].assign(size_t(page_tokens * shape_.v_dim), 0.0f);
        }
        witness().table.read(format_, record.form, host_.at(record.id, record.bytes), k[0].data(), v[0].data());
        there.read(format_, record.form, copy.data(), k[1].data(), v[1].data());
        const auto same = [](float a, float b) { return std::isnan(a) || a == b; };
        REQUIRE(std::equal(k[0].begin(), k[0].end(), k[1].begin(), same));
        REQUIRE(std::equal(v[0].begin(), v[0].end(), v[1].begin(), same));
    }
}

}  // namespace kvc_test
