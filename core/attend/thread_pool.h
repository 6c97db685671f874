// Worker threads of one cache. Results never depend on them: jobs write to places of their own.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/status.h"

namespace kvc {

// A callable job(index, scratch), borrowed for one run: unlike std::function it never allocates. Scratch is private to the thread.
class Job {
public:
    template <class F>
    Job(F& callable)
        : callable_(&callable), call_([](void* f, int64_t index, std::byte* scratch) { (*static_cast<F*>(f))(index, scratch); }) {}
    void operator()(int64_t index, std::byte* scratch) const { call_(callable_, index, scratch); }

private:
    void* callable_;
    void (*call_)(void*, int64_t, std::byte*);
};

class ThreadPool {
public:
    // Ends the threads; in a forked child, where there are none, it only lets go.
    struct Release {
        void operator()(ThreadPool* pool) const;
    };
    // scratch_bytes per worker. Throws std::bad_alloc or std::system_error if the host refuses; no thread is left behind then.
    static std::unique_ptr<ThreadPool, Release> start(int64_t threads, int64_t scratch_bytes);

    // Runs job(i, scratch) for i in 0 .. count - 1. The caller takes part with its own scratch. While another call runs, or in a forked child, the caller does it all alone.
    void run(int64_t count, std::byte* caller_scratch, const Job& job);
    int64_t scratch_bytes() const { return int64_t(workers_.size()) * scratch_bytes_; }

private:
    explicit ThreadPool(int64_t scratch_bytes);
    ~ThreadPool();
    void work(std::byte* scratch);

    int64_t scratch_bytes_ = 0;
    int owner_process_ = 0;
    std::vector<std::unique_ptr<std::byte[]>> scratch_;
    std::vector<std::thread> workers_;

    std::mutex busy_;   // one run at a time
    std::mutex mutex_;  // guards what follows, and the sleep of workers
    std::condition_variable wake_, finished_;
    std::atomic<int64_t> round_{0};
    const Job* job_ = nullptr;
    int64_t count_ = 0;
    int64_t active_ = 0;
    std::atomic<int64_t> next_{0};
    bool stop_ = false;
};

}  // namespace kvc
