// The kernels over device memory, every record and list an allocation of its own, so that compute-sanitizer sees each step beyond one;
// and the same bits as over the memory that the other tests share with the host.
#include <cstring>
#include <doctest/doctest.h>
#include <map>

#include "kernels/cuda/launch.cuh"
#include "kernels/simt/table.h"
#include "kernels/simt/table_stream.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

// Allocations of exactly the bytes that they hold.
class DeviceMemory {
public:
    ~DeviceMemory() {
        for (void* const p : taken_) {
            cudaFree(p);
        }
    }
    // Room for n bytes, of which the first `written` are copied from `from`; initcheck sees whoever reads the others.
    std::byte* take(size_t n, const void* from = nullptr, size_t written = 0) {
        void* p = nullptr;
        REQUIRE(cudaMalloc(&p, n) == cudaSuccess);
        taken_.push_back(p);
        if (written > 0) {
            REQUIRE(cudaMemcpy(p, from, written, cudaMemcpyHostToDevice) == cudaSuccess);
        }
        return static_cast<std::byte*>(p);
    }
    template <class T>
    T* copy_of(const T* items, int64_t n) {
        return n == 0 ? nullptr : reinterpret_cast<T*>(take(size_t(n) * sizeof(T), items, size_t(n) * sizeof(T)));
    }
    static std::vector<std::byte> read(const void* from, size_t n) {
        std::vector<std::byte> bytes(n);
        REQUIRE(cudaMemcpy(bytes.data(), from, n, cudaMemcpyDeviceToHost) == cudaSuccess);
        return bytes;
    }

private:
    std::vector<void*> taken_;
};

// The records of an item, each in an allocation, and the list of them.
class DeviceRecords {
public:
    DeviceRecords(Head& head, DeviceMemory* memory) : head_(head), memory_(memory) {}

    void add(kvc::RecordId id, int64_t bytes) {
        if (id) {
            slabs_.resize(std::max(slabs_.size(), size_t(id >> kvc::record_index_bits) + 1));
            slabs_[id >> kvc::record_index_bits] = memory_->take(size_t(bytes), head_.records().at(id), size_t(bytes));
        }
    }
    void add_all(const kvc::AttendItem& item) {
        const LayerFormat& f = head_.format();
        add(item.sinks, f.sink_bytes);
        for (int64_t e = 0; e < item.n_coded; ++e) {
            add(item.coded[e].record, f.code_bytes);
            add(item.coded[e].side, kvc::side_bytes);
        }
        for (int64_t e = 0; e < item.n_window; ++e) {
            add(item.window[e].record, f.window_bytes);
            add(item.window[e].side, kvc::side_bytes);
        }
    }
    kvc::ArenaView view() { return {memory_->copy_of(slabs_.data(), int64_t(slabs_.size()))}; }

private:
    Head& head_;
    DeviceMemory* memory_;
    std::vector<std::byte*> slabs_;
};

std::vector<std::byte> bytes_of(const std::vector<float>& x) {
    std::vector<std::byte> bytes(x.size() * sizeof(float));
    std::memcpy(bytes.data(), x.data(), bytes.size());
    return bytes;
}

std::vector<std::byte> attend_in_device_memory(Head& head, const kvc::AttendItem& item, const Ask& ask, const std::vector<float>& q) {
    DeviceMemory memory;
    DeviceRecords records(head, &memory);
    records.add_all(item);
    kvc::AttendItem moved = item;
    const size_t state_bytes = size_t(ask.tokens * ask.group * (head.format().v_dim + 2)) * sizeof(float);
    moved.q = memory.copy_of(q.data(), int64_t(q.size()));
    moved.coded = memory.copy_of(item.coded, item.n_coded);
    moved.window = memory.copy_of(item.window, item.n_window);
    moved.state = reinterpret_cast<float*>(memory.take(state_bytes));
    kvc::AttendParams params = params_of(head, ask);
    params.arena = records.view();
    kvc::cuda::launch_attend(params, memory.copy_of(&moved, 1), 1, ask.tokens * ask.group, kvc::simt::table_stream());
    kvc::simt::finish_launches();
    return DeviceMemory::read(moved.state, state_bytes);
}

const std::vector<std::string>& codecs() {
    static const std::vector<std::string> all{"fp16", "bf16", "int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"};
    return all;
}

}  // namespace

TEST_CASE("device memory: attention over records that are allocations of their own has the bits of the tests' shared memory") {
    for (const std::string& codec : codecs()) {
        for (const int dim : {64, 128}) {
            if (!offers(*kvc::simt::cuda_table(), codec, dim, dim)) {
                continue;
            }
            INFO(codec, " ", dim);
            Head head(*kvc::simt::cuda_table(), codec, dim, dim, 6);
            head.set_live(1, 0xf0ffffffffffff7fu);
            head.drop(2);
            const int64_t n = head.sinks() + 350;
            const auto item = head.item_of(n, 4);
            const Ask ask{.tokens = 3, .group = 5, .first_position = n - 3};
            const std::vector<float> q = gaussian(size_t(ask.tokens * ask.group * dim), 5);
            const Answer answer = attend(head, *item, ask, q);
            check_answer(head, *item, ask, q, answer);
            CHECK(attend_in_device_memory(head, item->item, ask, q) == bytes_of(answer.states));
        }
    }
}

TEST_CASE("device memory: codes are written within their record, and are those of the tests' shared memory") {
    for (const std::string& codec : codecs()) {
        if (!offers(*kvc::simt::cuda_table(), codec, 128, 128) || format_of(codec, 128, 128).lossless) {
            continue;
        }
        INFO(codec);
        Head head(*kvc::simt::cuda_table(), codec, 128, 128, 1);
        const LayerFormat& f = head.format();
        const auto item = head.item_of(head.sinks() + page_tokens, 0);
        const std::byte* const window = head.records().at(item->item.window[0].record);
        std::vector<std::byte> codes(size_t(f.code_bytes), std::byte{0x5a});
        head.table().quantize({&f, window, codes.data()});
        DeviceMemory memory;
        const std::vector<std::byte> before(codes.size(), std::byte{0x5a});
        const kvc::cuda::QuantizeJob job{memory.copy_of(window, f.window_bytes), memory.copy_of(before.data(), f.code_bytes)};
        kvc::cuda::launch_quantize(f, memory.copy_of(&job, 1), 1, kvc::simt::table_stream());
        kvc::simt::finish_launches();
        CHECK(DeviceMemory::read(job.codes, codes.size()) == codes);
    }
}
