// A few sequences whose keys and values are stored, coded and attended to twice: by an executor on a device, and job by job by a
// table on the host, the witness. Records must hold the same numbers, and outputs be the same bits where both run the same kernels.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "core/backend/device.h"
#include "tests/kernels/head.h"

namespace kvc_test {

constexpr int64_t splits = 2;
constexpr float nobody_writes = -12345.0f;  // what outputs hold before

template <class T>
int64_t bytes_of(const std::vector<T>& values) {
    return int64_t(values.size() * sizeof(T));
}

template <class T>
const std::byte* base_of(const std::vector<T>& values) {
    return reinterpret_cast<const std::byte*>(values.data());
}

struct RigShape {
    std::string codec = "int4";
    int k_dim = 64, v_dim = 64;
    int64_t sequences = 2, heads = 2, group = 2;
    bool device_buffers = false;
    float soft_cap = 0;
    int64_t gap = 0;  // numbers between the rows of out, which nobody may write
    bool sink_logits = false;
    bool prompt_class = false;   // of steps of several tokens
    int64_t mass = 0;            // how often the mass of an attend is added to its counters
    bool mass_of_pages = false;  // of runs instead of tokens
    bool keys_before_rope = false;
    bool counts = false;   // every fifth token stands for several
    bool dropped = false;  // every third coded page was dropped
};

// What a program compares the device with.
struct Witness {
    const KernelTable& table;
    double tolerance;  // of outputs, as relative error of a step; 0: the same bits
};
const Witness& witness();

// Records of a rig on one side. The same calls give the same ids on both.
class RigRecords {
public:
    explicit RigRecords(kvc::Device* device) : device_(device) {}  // nullptr: on the host
    ~RigRecords();
    RigRecords(const RigRecords&) = delete;
    RigRecords& operator=(const RigRecords&) = delete;

    RecordId add(int64_t bytes);
    std::byte* at(RecordId id, int64_t bytes) const { return kvc::ArenaView{slabs_.data()}.at(id, bytes); }
    const std::vector<std::byte*>& slabs() const { return slabs_; }

private:
    struct Size {
        int64_t bytes;
        uint32_t slab, used;
    };
    kvc::Device* device_;
    std::vector<std::byte*> slabs_{nullptr};
    std::vector<Size> sizes_;
};

class Rig {
public:
    // Tags of its stores are tag + sequence.
    Rig(std::shared_ptr<kvc::Device> device, const RigShape& shape, unsigned seed = 1, int64_t tag = 100);
    ~Rig();

    // Plans a step of `tokens` new tokens of each sequence and runs it on the host.
    void plan(int64_t tokens);
    // Makes a number of the step's keys NaN.
    void spoil(int64_t sequence, int64_t token, int64_t head);

    // The same on the device, part by part; with device buffers, nothing waits.
    kvc::Status begin(void* stream = nullptr);
    kvc::Status append();
    kvc::Status attend();
    void end() { executor_.reset(); }
    kvc::Status run(void* stream = nullptr);
    // out and lse of the step, once more than the executor's life; with device buffers they come from the device now.
    kvc::Status fetch();

    // Whether out and lse of both sides agree, and gaps are untouched.
    void check_outputs();
    // Whether all records hold the same numbers.
    void check_records();

private:
    // Where jobs of the step lie on a side: offsets become addresses.
    struct Bases {
        const RigRecords& records;
        const std::byte* k;
        const std::byte* v;
        const std::byte* q;
        std::byte* states;
        kvc::PageSum* page_sums = nullptr;
    };
    struct Tables {
        RecordId sinks = 0;
        std::vector<kvc::PageEntry> coded, window;
    };
    struct Job {
        kvc::StoreParams params;  // k and v are offsets
        RecordId record;
    };
    void plan_stores();
    void plan_codes();
    std::vector<kvc::StoreParams> stores(const Bases& bases) const;
    std::vector<kvc::QuantizeParams> codes(const Bases& bases) const;
    std::vector<kvc::AttendItem> items(const Bases& bases) const;
    int64_t page_sum_count() const;
    std::vector<kvc::FinishTile> tiles(const Bases& bases) const;
    kvc::AttendParams params(const Bases& bases) const;
    kvc::FinishCall finish_call(void* out, float* lse, float* full_lse) const;
    // The items once more, with counters of their own that begin at 0.
    std::vector<kvc::MassItem> mass_items(const Bases& bases, const float* full_lse, std::vector<int64_t>* counters) const;
    void run_on_host();
    kvc::Status allocate_buffers();
    void release_buffers();

    Tables& tables(int64_t sequence, int64_t head) { return tables_[size_t(sequence * shape_.heads + head)]; }
    const Tables& tables(int64_t sequence, int64_t head) const { return tables_[size_t(sequence * shape_.heads + head)]; }
    RecordId add(KernelTable::Form form, int64_t bytes);
    int64_t q_heads() const { return shape_.heads * shape_.group; }
    int64_t out_stride() const { return q_heads() * shape_.v_dim + shape_.gap; }
    int64_t rows() const { return tokens_ * shape_.sequences; }
    int64_t split_floats() const { return rows() * q_heads() * (shape_.v_dim + 2); }

    std::shared_ptr<kvc::Device> device_;
    RigShape shape_;
    LayerFormat format_;
    unsigned seed_;
    int64_t tag_;
    RigRecords host_, there_;
    std::vector<Tables> tables_;  // [sequence][head]
    struct Kept {
        RecordId id;
        KernelTable::Form form;
        int64_t bytes;
    };
    std::vector<Kept> all_;
    int64_t length_ = 0, coded_pages_ = 0;
    std::vector<double> frequencies_;  // of keys before RoPE
    kvc::Rope rope_ = {};
    std::vector<kvc::TokenCount> counts_;

    // ---- the step ----
    int64_t tokens_ = 0;
    std::vector<float> k_, v_, q_;  // [rows][heads][dim], sequence by sequence
    std::vector<float> sink_logits_;
    std::vector<float> host_out_, host_lse_, out_, lse_;
    std::vector<int64_t> host_mass_, mass_;
    std::vector<Job> stores_;
    std::vector<std::pair<RecordId, RecordId>> codes_;  // window and code records
    std::unique_ptr<kvc::DeviceExecutor> executor_;
    std::byte* buffers_[5] = {};  // k, v, q, out and lse in device memory
};

}  // namespace kvc_test
