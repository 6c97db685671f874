// Runs a kernel's blocks on the CPU, one fiber a thread, and checks what a GPU would not forgive.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/simt/fiber.h"

namespace kvc::simt {

// What a kernel did wrong: a lane missed a collective, an address was misaligned, shared memory ran out.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// In which order the threads of a block take their turns. Results must not depend on it.
enum class LaneOrder { forward, reverse, random };

constexpr int warp_lanes = 32;
constexpr int shared_limit = 48 * 1024;  // static shared memory of a block on every architecture
// Static and dynamic shared memory of a block on the architecture that kernels find, as CUDA's programming guide lists it.
int block_shared_limit(int architecture);
constexpr int grid_y_limit = 65535;
// What machines and emulated devices are at first: KVC_SIMT_ARCHITECTURE, or 90.
int architecture_of_run();

// What the lanes of a warp bring to an operation and take from it, each in a place of its own.
struct WarpWords {
    uint32_t w[6][warp_lanes];
    float pair[2][warp_lanes][2];
};

using Site = std::source_location;

class Machine {
public:
    explicit Machine(LaneOrder order = LaneOrder::forward, uint64_t seed = 1);
    virtual ~Machine();

    // Runs all blocks one after the other; throws Fault. kernel is called once for each thread.
    virtual void launch(int blocks_x, int blocks_y, int threads, const std::function<void()>& kernel, int shared_bytes = 0);

    // The architecture that kernels find: 80 and later, as in sm_80. device: the one whose shared memory they have, if it is another's
    // code that runs there; 0: the same.
    void set_architecture(int architecture, int device = 0) {
        architecture_ = architecture;
        device_ = device ? device : architecture;
    }
    int architecture() const { return architecture_; }

    // ---- called by the thread that runs ----
    static Machine& current();
    int thread() const { return running_; }
    int block_x() const { return block_x_; }
    int block_y() const { return block_y_; }

    // A lane writes what it brings to its place, waits until all lanes of its warp have come to the same site and the last of them has
    // computed, and reads its own place again. The next operation runs only when all are here again, so a fast lane cannot spoil the
    // results that a slow one has still to fetch.
    WarpWords& words() { return warps_[size_t(running_ / warp_lanes)].words; }
    using Operation = void (*)(WarpWords& words);
    void collective(Operation operation, const Site& site);
    void sync_block(const Site& site);
    // The same bytes for every thread of the block that asks for its n-th piece; poisoned with NaN when the block begins.
    void* shared(size_t bytes, size_t alignment, const Site& site);
    // The launch's dynamic shared memory, poisoned likewise. Nothing lies behind it, so that the address sanitizer sees its end.
    std::byte* dynamic_shared() const;
    // Bulk copies: started ones leave NaN in their place until a lane waits at their barrier.
    void expect_copies(const void* barrier, int bytes, const Site& site);
    void start_copy(std::byte* shared, const std::byte* from, int bytes, const void* barrier, const Site& site);
    // Brings them if all have been started; otherwise the thread gives up its turn, and its caller asks again.
    bool finish_copies(const void* barrier, const Site& site);
    // before, number, after: one sentence. No strings, because the frames of a fiber that is forgotten are never left.
    [[noreturn]] void fault(const char* before, int64_t number, const char* after, const Site& site);

private:
    // Where lanes wait for each other: a warp's operation, or the block's barrier.
    struct Gathering {
        int arrived = 0;
        uint64_t rounds = 0;
        Site site;
    };
    struct Warp {
        Gathering gathering;
        WarpWords words;
    };
    struct Thread {
        Fiber* fiber = nullptr;
        const Gathering* waits_for = nullptr;
        uint64_t round = 0;  // continues when the gathering has passed it
        size_t shared_used = 0;
        bool paused = false;  // waits for copies that another thread has still to start
    };

    struct Copy {
        std::byte* to;
        const std::byte* from;
        int bytes;
    };
    // What a barrier waits for.
    struct Copies {
        int expected = 0;
        std::vector<Copy> started;
    };

    void run_block(int threads, const std::function<void()>& kernel);
    // One turn for each thread that can go on; false if there was none.
    bool run_turn();
    void shuffle_turns();
    // The next thread of this turn that can go on, from now on the running one; nullptr if there is none.
    Fiber* next_in_turn();
    void end_turn();  // of the running thread; comes back in its next one
    void check_same_place(const Gathering& gathering, const Site& site);
    void wait(const Gathering& gathering);
    void write_fault(const char* before, int64_t number, const char* after, const Site& site);
    std::string who_waits() const;

    LaneOrder order_;
    uint64_t random_;
    int block_x_ = 0, block_y_ = 0;
    int running_ = 0;
    std::vector<std::unique_ptr<Fiber>> fibers_;  // of the largest block so far
    std::vector<Thread> threads_;
    std::vector<int> turns_;
    size_t turn_ = 0;       // the next of turns_
    bool went_on_ = false;  // a thread did something in this round of turns but waiting for copies
    std::vector<Warp> warps_;
    Gathering barrier_;
    std::vector<std::byte> shared_;
    size_t shared_used_ = 0;  // by this block so far
    std::vector<std::byte> dynamic_shared_;
    int dynamic_bytes_ = 0;  // of dynamic_shared_ without its alignment
    std::map<const void*, Copies> copies_;
    Site pause_site_;  // of the last thread that paused
    int architecture_ = architecture_of_run(), device_ = architecture_;
    std::string fault_;
};

}  // namespace kvc::simt
