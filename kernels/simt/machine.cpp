#include "kernels/simt/machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

namespace kvc::simt {
namespace {

#ifdef KVC_SIMT_ASAN
constexpr size_t stack_bytes = 512 * 1024;
#else
constexpr size_t stack_bytes = 128 * 1024;
#endif

constexpr size_t shared_alignment = 128;  // of shared memory, as a GPU aligns it
constexpr std::byte not_written{0xff};    // NaN as float and as half

thread_local Machine* machine = nullptr;

std::byte* aligned(const std::vector<std::byte>& memory) {
    return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + shared_alignment - 1) &
                                        ~uintptr_t{shared_alignment - 1});
}

std::string text_of_site(const Site& site) {
    const std::string path = site.file_name();
    return path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(site.line());
}

bool same_place(const Site& a, const Site& b) {
    if (std::memcmp(&a, &b, sizeof a) == 0) {
        return true;
    }
    return a.line() == b.line() && a.column() == b.column() &&
           (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

}  // namespace

int block_shared_limit(int architecture) {
    switch (architecture) {
    case 80:
    case 87:
        return 163 * 1024;
    case 90:
    case 100:
    case 103:
    case 110:
        return 227 * 1024;
    default:
        return 99 * 1024;
    }
}

int architecture_of_run() {
    static const char* const asked = std::getenv("KVC_SIMT_ARCHITECTURE");
    static const int architecture = asked ? std::atoi(asked) : 90;
    return architecture;
}

Machine::Machine(LaneOrder order, uint64_t seed) : order_(order), random_(seed | 1) {
    // Room for the largest block, aligned as a GPU aligns it.
    shared_.resize(shared_limit + shared_alignment, not_written);
}

Machine::~Machine() = default;

Machine& Machine::current() { return *machine; }

void Machine::launch(int blocks_x, int blocks_y, int threads, const std::function<void()>& kernel, int shared_bytes) {
    if (blocks_x <= 0 || blocks_y <= 0 || blocks_y > grid_y_limit || threads <= 0 || threads > 1024) {
        throw Fault("invalid configuration: " + std::to_string(blocks_x) + " x " + std::to_string(blocks_y) + " blocks of " +
                    std::to_string(threads) + " threads");
    }
    if (shared_bytes > block_shared_limit(device_)) {
        throw Fault("dynamic shared memory of " + std::to_string(shared_bytes) + " bytes on sm_" + std::to_string(device_));
    }
    dynamic_bytes_ = shared_bytes;
    Machine* const outer = std::exchange(machine, this);
    if (dynamic_shared_.size() != size_t(shared_bytes) + shared_alignment) {
        dynamic_shared_ = std::vector<std::byte>(size_t(shared_bytes) + shared_alignment);
    }
    for (block_y_ = 0; block_y_ < blocks_y && fault_.empty(); block_y_++) {
        for (block_x_ = 0; block_x_ < blocks_x && fault_.empty(); block_x_++) {
            run_block(threads, kernel);
        }
    }
    machine = outer;
    if (!fault_.empty()) {
        threads_.clear();
        fibers_.clear();  // suspended somewhere inside the kernel: their stacks cannot be used again
        throw Fault(std::exchange(fault_, {}));
    }
}

void Machine::run_block(int threads, const std::function<void()>& kernel) {
    threads_.resize(size_t(threads));
    turns_.resize(size_t(threads));
    std::iota(turns_.begin(), turns_.end(), 0);
    if (order_ == LaneOrder::reverse) {
        std::reverse(turns_.begin(), turns_.end());
    }
    warps_.assign(size_t((threads + warp_lanes - 1) / warp_lanes), Warp{});
    barrier_ = {};
    std::fill_n(aligned(shared_), std::exchange(shared_used_, 0), not_written);
    std::fill(dynamic_shared_.begin(), dynamic_shared_.end(), not_written);
    copies_.clear();
    while (fibers_.size() < threads_.size()) {
        fibers_.push_back(std::make_unique<Fiber>(stack_bytes));
    }
    for (size_t i = 0; i < threads_.size(); i++) {
        Thread& t = threads_[i];
        t.fiber = fibers_[i].get();
        t.fiber->start(kernel);
        t.waits_for = nullptr;
        t.shared_used = 0;
        t.paused = false;
    }
    while (fault_.empty() && run_turn()) {
    }
    const bool all_done = std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.fiber->done(); });
    if (fault_.empty() && !all_done) {
        fault_ = "lanes missed a collective: " + who_waits();
    }
}

bool Machine::run_turn() {
    if (order_ == LaneOrder::random) {
        shuffle_turns();
    }
    turn_ = 0;
    went_on_ = false;
    bool resumed = false;
    while (Fiber* const fiber = next_in_turn()) {
        resumed = true;
        fiber->resume();  // and those that it gives way to; comes back from the last, or from one that has ended
        if (!fault_.empty()) {
            return false;
        }
        went_on_ |= !threads_[size_t(running_)].paused;
    }
    if (resumed && !went_on_) {
        write_fault("thread ", running_, " waits for copies that nobody starts", pause_site_);
    }
    return went_on_;
}

Fiber* Machine::next_in_turn() {
    while (turn_ < turns_.size()) {
        const int i = turns_[turn_++];
        Thread& t = threads_[size_t(i)];
        if (t.fiber->done() || (t.waits_for && t.waits_for->rounds == t.round)) {
            continue;
        }
        t.waits_for = nullptr;
        t.paused = false;
        running_ = i;
        return t.fiber;
    }
    return nullptr;
}

void Machine::end_turn() {
    const Thread& t = threads_[size_t(running_)];
    went_on_ |= !t.paused;
    if (Fiber* const next = next_in_turn()) {
        t.fiber->give_way_to(*next);
    } else {
        t.fiber->suspend();
    }
}

// Fisher-Yates with a generator of our own, so that a seed names the same order everywhere (xorshift64*).
void Machine::shuffle_turns() {
    for (size_t n = turns_.size(); n > 1; n--) {
        random_ ^= random_ >> 12;
        random_ ^= random_ << 25;
        random_ ^= random_ >> 27;
        std::swap(turns_[n - 1], turns_[(random_ * 0x2545f4914f6cdd1dULL >> 33) % n]);
    }
}

void Machine::wait(const Gathering& gathering) {
    Thread& t = threads_[size_t(running_)];
    t.waits_for = &gathering;
    t.round = gathering.rounds;
    end_turn();
}

void Machine::check_same_place(const Gathering& gathering, const Site& site) {
    if (gathering.arrived > 0 && !same_place(gathering.site, site)) {
        fault("lanes of one warp stand at different collectives: thread ", running_, " here, others elsewhere", site);
    }
}

void Machine::collective(Operation operation, const Site& site) {
    Warp& warp = warps_[size_t(running_ / warp_lanes)];
    check_same_place(warp.gathering, site);
    warp.gathering.site = site;
    if (++warp.gathering.arrived == warp_lanes) {
        operation(warp.words);
        warp.gathering.arrived = 0;
        warp.gathering.rounds++;
    } else {
        wait(warp.gathering);
    }
}

void Machine::sync_block(const Site& site) {
    // Warps may come from different places in the source, as on a GPU; what counts is that all threads come.
    barrier_.site = site;
    if (++barrier_.arrived == int(threads_.size())) {
        barrier_.arrived = 0;
        barrier_.rounds++;
    } else {
        wait(barrier_);
    }
}

void* Machine::shared(size_t bytes, size_t alignment, const Site& site) {
    Thread& t = threads_[size_t(running_)];
    const size_t start = (t.shared_used + alignment - 1) / alignment * alignment;
    t.shared_used = start + bytes;
    if (t.shared_used > size_t(shared_limit)) {
        fault("shared memory beyond ", shared_limit, " bytes", site);
    }
    if (int(t.shared_used) + dynamic_bytes_ > block_shared_limit(device_)) {
        fault("static and dynamic shared memory of ", int64_t(t.shared_used) + dynamic_bytes_, " bytes", site);
    }
    shared_used_ = std::max(shared_used_, t.shared_used);
    return aligned(shared_) + start;
}

// Ends where the vector ends, up to the alignment.
std::byte* Machine::dynamic_shared() const { return aligned(dynamic_shared_); }

void Machine::expect_copies(const void* barrier, int bytes, const Site& site) {
    Copies& copies = copies_[barrier];
    if (copies.expected != 0) {
        fault("a barrier expects copies while ", copies.expected, " bytes are still to come", site);
    }
    copies.expected = bytes;
}

void Machine::start_copy(std::byte* shared, const std::byte* from, int bytes, const void* barrier, const Site& site) {
    const std::byte* const base = dynamic_shared();
    if (shared < base || shared + bytes > dynamic_shared_.data() + dynamic_shared_.size()) {
        fault("a copy of ", bytes, " bytes leaves shared memory", site);
    }
    std::fill_n(shared, bytes, not_written);
    copies_[barrier].started.push_back({shared, from, bytes});
}

bool Machine::finish_copies(const void* barrier, const Site& site) {
    Copies& copies = copies_[barrier];
    int bytes = 0;
    for (const Copy& copy : copies.started) {
        bytes += copy.bytes;
    }
    if (bytes > copies.expected) {
        fault("more bytes were copied than a barrier expects: ", bytes, "", site);
    }
    if (bytes == 0 || bytes < copies.expected) {
        pause_site_ = site;
        threads_[size_t(running_)].paused = true;
        end_turn();
        return false;
    }
    for (const Copy& copy : copies.started) {
        std::memcpy(copy.to, copy.from, size_t(copy.bytes));
    }
    copies = {};
    return true;
}

void Machine::write_fault(const char* before, int64_t number, const char* after, const Site& site) {
    fault_ = text_of_site(site) + ": " + before + std::to_string(number) + after;
}

void Machine::fault(const char* before, int64_t number, const char* after, const Site& site) {
    write_fault(before, number, after, site);
    for (;;) {
        threads_[size_t(running_)].fiber->suspend();
    }
}

std::string Machine::who_waits() const {
    std::string text;
    for (size_t i = 0; i < threads_.size(); i++) {
        const Thread& t = threads_[i];
        const std::string where = t.fiber->done() ? "left the kernel" : "waits at " + text_of_site(t.waits_for->site);
        const std::string before = text.empty() ? "" : "; ";
        if (text.size() < where.size() || text.compare(text.size() - where.size(), where.size(), where) != 0) {
            text += before + "thread " + std::to_string(i) + " on " + where;
        }
    }
    return text;
}

}  // namespace kvc::simt
