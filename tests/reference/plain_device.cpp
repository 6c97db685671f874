#include "tests/reference/plain_device.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/reference/plain_executor.h"
#include "tests/reference/plain_measure.h"
#include "tests/reference/plain_recode.h"

namespace kvc_plain {
namespace {

constexpr int64_t memory_bytes = int64_t{8} << 30;  // of address space; pages are there once they are touched
constexpr int64_t page_bytes = 4096;

[[noreturn]] void die(const char* what) {
    std::fprintf(stderr, "plain device: %s\n", what);
    std::abort();
}

std::byte* map(int file, int access) {
    void* const at = mmap(nullptr, size_t(memory_bytes), access, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (at == MAP_FAILED) die("no address space");
    return static_cast<std::byte*>(at);
}

}  // namespace

PlainDevice::PlainDevice(const kvc::KernelTable& kernels) : kernels_(kernels), records_(kernels) {
    records_.scratch_bytes = nullptr;
    records_.attend = nullptr;
    records_.mass = nullptr;
    records_.page_mass = nullptr;
    records_.finish = nullptr;
    const int file = memfd_create("plain device", 0);
    if (file < 0 || ftruncate(file, memory_bytes) != 0) die("no memory");
    far_ = map(file, PROT_NONE);
    near_ = map(file, PROT_READ | PROT_WRITE);
    close(file);
}

PlainDevice::~PlainDevice() {
    queue_.clear();
    if (!blocks_.empty()) die("destroyed with blocks that nobody released");
    munmap(far_, size_t(memory_bytes));
    munmap(near_, size_t(memory_bytes));
}

std::uintptr_t PlainDevice::reach(std::uintptr_t address) const {
    if (address == 0) return 0;
    const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(far_);
    if (address < start || address >= start + std::uintptr_t(memory_bytes)) die("kernels were given an address of the host");
    return address - start + reinterpret_cast<std::uintptr_t>(near_);
}

// First fit, whole pages, and a page between blocks.
std::byte* PlainDevice::allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    if (allowed_ == 0 || bytes <= 0 || bytes > memory_bytes || !broken_.empty()) return nullptr;
    if (allowed_ > 0) allowed_--;
    const int64_t needed = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    int64_t at = page_bytes;
    for (const auto& [offset, size] : blocks_) {
        if (offset - at >= needed + page_bytes) break;
        at = offset + size + page_bytes;
    }
    if (at + needed > memory_bytes) return nullptr;
    blocks_[at] = needed;
    std::memset(near_ + at, 0xff, size_t(std::min<int64_t>(needed, 1 << 20)));  // NaN to whoever reads what was not written
    return far_ + at;
}

void PlainDevice::release(std::byte* block) {
    std::lock_guard lock(mutex_);
    (void)wait();
    forget(block);
}

void PlainDevice::forget(std::byte* block) {
    std::lock_guard lock(mutex_);
    if (blocks_.erase(block - far_) != 1) die("released what was not allocated");
}

void PlainDevice::launch(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
}

kvc::Status PlainDevice::wait() {
    for (; !queue_.empty(); queue_.pop_front()) {
        if (broken_.empty()) queue_.front()();
    }
    return broken_.empty() ? kvc::Status{} : kvc::fail(kvc::Code::device, broken_);
}

kvc::Status PlainDevice::counted_wait() {
    waits_++;
    return wait();
}

kvc::Status PlainDevice::write(std::byte* to, const std::byte* from, int64_t bytes) {
    launch([at = near(to), taken = std::vector<std::byte>(from, from + bytes)] { std::copy(taken.begin(), taken.end(), at); });
    return {};
}

kvc::Status PlainDevice::read(const std::byte* from, std::byte* to, int64_t bytes) {
    std::lock_guard lock(mutex_);
    reads_++;
    if (kvc::Status waited = counted_wait(); !waited.ok()) return waited;
    std::memcpy(to, near(from), size_t(bytes));
    return {};
}

kvc::Status PlainDevice::copy(const std::byte* from, std::byte* to, int64_t bytes) {
    launch([source = near(from), at = near(to), bytes] { std::memcpy(at, source, size_t(bytes)); });
    return {};
}

namespace {

// A device runs the jobs of a round side by side: none may write what another one, or one of a later round, reads or writes.
void check_rounds(std::span<const kvc::RecodeParams> jobs) {
    std::set<const std::byte*> written;
    std::map<const std::byte*, std::set<size_t>> readers;
    for (size_t i = 0; i < jobs.size(); i++) {
        if (i > 0 && jobs[i].round < jobs[i - 1].round) die("rounds of recode do not ascend");
        for (int64_t s = 0; s < jobs[i].n_sources; s++) {
            readers[jobs[i].sources[s].record].insert(i);
            readers[jobs[i].sources[s].side].insert(i);
        }
    }
    for (size_t i = 0; i < jobs.size(); i++) {
        for (const std::byte* const at : {jobs[i].record, jobs[i].side}) {
            if (!at) continue;
            if (!written.insert(at).second) die("two jobs of recode write one record");
            for (const size_t reader : readers[at]) {
                if (reader != i && jobs[reader].round >= jobs[i].round) die("recode writes over what another job has yet to read");
            }
        }
    }
}

}  // namespace

kvc::Status PlainDevice::recode(std::span<const kvc::RecodeParams> jobs) {
    check_rounds(jobs);
    for (const kvc::RecodeParams& given : jobs) {
        std::vector<kvc::RecodeSource> sources(given.sources, given.sources + given.n_sources);
        for (kvc::RecodeSource& source : sources)
            source.record = near(source.record), source.side = near(source.side);
        std::vector<kvc::FoldedRow> folds(given.folds, given.folds + std::popcount(given.folded));
        for (kvc::FoldedRow& fold : folds)
            fold.k = near(fold.k), fold.v = near(fold.v);
        kvc::RecodeParams job = given;
        job.record = near(job.record), job.side = near(job.side);
        launch([this, job, sources = std::move(sources), folds = std::move(folds)]() mutable {
            job.sources = sources.data(), job.folds = folds.data();
            kvc_plain::recode(kernels_, job);
            pages_recoded_++;
        });
    }
    return {};
}

kvc::Status PlainDevice::measure(std::span<const kvc::StatisticJob> jobs) {
    std::lock_guard lock(mutex_);
    if (kvc::Status waited = counted_wait(); !waited.ok()) return waited;
    for (const kvc::StatisticJob& job : jobs) {
        measured_ += job.tokens.n;
        kvc_plain::measure(kernels_, job, [this](const std::byte* record) { return near(record); });
    }
    return {};
}

kvc::Status PlainDevice::route(std::span<const kvc::RouteJob> jobs) {
    std::lock_guard lock(mutex_);
    if (kvc::Status waited = counted_wait(); !waited.ok()) return waited;
    for (const kvc::RouteJob& job : jobs) {
        routed_ += job.leaving.n;
        kvc_plain::route(kernels_, job, [this](const std::byte* record) { return near(record); });
    }
    return {};
}

kvc::Status PlainDevice::fold(std::span<const kvc::FoldJob> jobs) {
    std::lock_guard lock(mutex_);
    if (kvc::Status waited = counted_wait(); !waited.ok()) return waited;
    for (kvc::FoldJob job : jobs) {
        folded_ += job.folds;
        job.rows = near(job.rows);
        kvc_plain::fold(kernels_, job, [this](const std::byte* record) { return near(record); });
    }
    return {};
}

kvc::Status PlainDevice::store(std::span<const kvc::StoreParams> jobs) {
    for (kvc::StoreParams job : jobs) {
        job.k = near(static_cast<const std::byte*>(job.k)), job.v = near(static_cast<const std::byte*>(job.v));
        job.record = near(job.record);
        launch([this, job] { kernels_.store(job); });
    }
    return {};
}

kvc::Status PlainDevice::synchronize(std::vector<kvc::BadStore>* bad) {
    std::lock_guard lock(mutex_);
    if (kvc::Status waited = counted_wait(); !waited.ok()) return waited;
    bad->insert(bad->end(), bad_.begin(), bad_.end());
    bad_.clear();
    for (PlainExecutor* executor : executors_)
        executor->add_mass();
    return {};
}

kvc::Status PlainDevice::check_memory(const void* p, int64_t bytes, bool on_device) {
    std::lock_guard lock(mutex_);
    const auto* const first = static_cast<const std::byte*>(p);
    const bool here = first >= far_ && first < far_ + memory_bytes;
    if (here != on_device) return kvc::fail(kvc::Code::argument, here ? "is memory of the device" : "is memory of the host");
    if (!here) return {};
    auto block = blocks_.upper_bound(first - far_);
    const bool whole = block != blocks_.begin() && (block--, first - far_ + bytes <= block->first + block->second);
    return whole ? kvc::Status{} : kvc::fail(kvc::Code::argument, "goes beyond its buffer");
}

void* PlainDevice::allocate_pinned(int64_t bytes) { return std::malloc(size_t(bytes)); }
void PlainDevice::release_pinned(void* block) { std::free(block); }

kvc::Result<std::unique_ptr<kvc::DeviceExecutor>> PlainDevice::begin(const kvc::DeviceStep& step) {
    std::lock_guard lock(mutex_);
    if (!broken_.empty()) return kvc::fail(kvc::Code::device, broken_);
    auto executor = std::make_unique<PlainExecutor>(*this, step);
    if (!executor->ready()) return kvc::fail(kvc::Code::no_memory, "plain device: no memory for a step");
    return std::unique_ptr<kvc::DeviceExecutor>(std::move(executor));
}

void PlainDevice::allow_allocations(int64_t n) {
    std::lock_guard lock(mutex_);
    allowed_ = n;
}

void PlainDevice::break_down(const std::string& reason) {
    std::lock_guard lock(mutex_);
    broken_ = reason;
}

int64_t PlainDevice::allocated_blocks() {
    std::lock_guard lock(mutex_);
    return int64_t(blocks_.size());
}

namespace {

std::mutex newest_mutex;
std::weak_ptr<PlainDevice> newest;

}  // namespace

std::shared_ptr<PlainDevice> open_plain_device(int64_t ordinal) {
    auto opened = std::make_shared<PlainDevice>(*kvc::kernel_table(int(ordinal)));
    std::lock_guard lock(newest_mutex);
    newest = opened;
    return opened;
}

PlainDevice& newest_device() {
    std::lock_guard lock(newest_mutex);
    const std::shared_ptr<PlainDevice> device = newest.lock();
    if (!device) die("there is none");
    return *device;
}

}  // namespace kvc_plain
