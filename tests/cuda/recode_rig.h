// New pages out of tokens of others, made twice: by a device and by the scalar definitions over the host's copy of the same records. Both must
// leave the same bytes.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "core/backend/device.h"
#include "tests/kernels/head.h"

namespace kvc_test {

// Records in one block, on the host and on the device: what is done to both must leave the same bytes.
class Blocks {
public:
    Blocks(std::shared_ptr<kvc::Device> device, int64_t bytes)
        : device_(std::move(device)), there_(device_->allocate(bytes)), here_(static_cast<size_t>(bytes), std::byte{0x5a}) {}
    ~Blocks() { device_->release(there_); }
    Blocks(const Blocks&) = delete;
    Blocks& operator=(const Blocks&) = delete;

    // Offset of a new record.
    int64_t add(const std::vector<std::byte>& bytes);
    int64_t add(int64_t bytes) { return add(std::vector<std::byte>(size_t(bytes), std::byte{0x5a})); }

    struct Source {
        const LayerFormat* format;
        int64_t record, side, first_position;  // side -1: none
    };
    struct Fold {
        int token;     // of the job's
        int64_t k, v;  // where its new numbers lie, f32; k -1: its key stays
    };
    struct Job {
        const LayerFormat* format;
        int64_t record, side;
        std::vector<Source> sources;
        std::vector<std::pair<int, int>> tokens;  // source, slot; the last is repeated
        bool through_append = false;
        int64_t round = 0;
        std::vector<Fold> folds = {};  // ascending
        bool keeps_keys = false;
    };

    kvc::Device& device() { return *device_; }
    const std::byte* there() const { return there_; }
    const std::byte* here() const { return here_.data(); }
    kvc::Status send() { return device_->write(there_, here_.data(), int64_t(here_.size())); }
    kvc::Status recode_there(const std::vector<Job>& jobs);
    void recode_here(const std::vector<Job>& jobs);
    // The first byte that differs; -1: none.
    int64_t difference();
    void run(const std::vector<Job>& jobs);

private:
    std::shared_ptr<kvc::Device> device_;
    std::byte* const there_;
    std::vector<std::byte> here_;
    int64_t used_ = 0;
};

// A record of random tokens; of seeds one and more apart, some large enough that their codes stand for more than fp16 holds, some among its
// subnormals.
std::vector<std::byte> page_of(const LayerFormat& format, const KernelTable& table, unsigned seed);

// A whole page, or one whose dead tokens repeat a live one.
std::vector<std::pair<int, int>> tokens_of_page(uint64_t live);
// So many tokens of so many pages, in an order of their own.
std::vector<std::pair<int, int>> mixed_tokens(int pages, int n, unsigned seed);

// All jobs with these head dims: each format from each (every stride-th), whole pages and sparse ones, and from several formats at once.
void check_recodes(const std::shared_ptr<kvc::Device>& device, int k_dim, int v_dim, int stride);

}  // namespace kvc_test
