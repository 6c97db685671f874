#include "core/attend/thread_pool.h"

#include <unistd.h>

namespace kvc {
namespace {

// How often a worker looks for the next round before it sleeps: a few microseconds, the gap between two layers of a decode step.
constexpr int spins_before_sleep = 2000;

std::byte* aligned_scratch(std::byte* block) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(block);
    return block + (64 - address % 64) % 64;
}

}  // namespace

void ThreadPool::Release::operator()(ThreadPool* pool) const {
    // The threads did not survive a fork: joining them, and destroying what they sleep on, would wait for ever. The child's copy is left alone.
    if (getpid() == pool->owner_process_) delete pool;
}

std::unique_ptr<ThreadPool, ThreadPool::Release> ThreadPool::start(int64_t threads, int64_t scratch_bytes) {
    std::unique_ptr<ThreadPool, Release> pool(new ThreadPool(scratch_bytes));
    for (int64_t i = 0; i < threads; i++)
        pool->scratch_.emplace_back(new std::byte[size_t(scratch_bytes) + 64]);
    pool->workers_.reserve(size_t(threads));
    for (int64_t i = 0; i < threads; i++) {
        // If the host refuses this one, the pool is released and joins those before it.
        std::byte* scratch = aligned_scratch(pool->scratch_[size_t(i)].get());
        pool->workers_.emplace_back([self = pool.get(), scratch] { self->work(scratch); });
    }
    return pool;
}

ThreadPool::ThreadPool(int64_t scratch_bytes) : scratch_bytes_(scratch_bytes), owner_process_(getpid()) {}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        round_++;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_)
        worker.join();
}

void ThreadPool::work(std::byte* scratch) {
    int64_t seen = 0;
    while (true) {
        for (int i = 0; i < spins_before_sleep && round_.load(std::memory_order_acquire) == seen; i++) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        const Job* job = nullptr;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return round_.load(std::memory_order_relaxed) != seen; });
            seen = round_.load(std::memory_order_relaxed);
            if (stop_) return;
            if (!job_) continue;  // the round ended before this thread woke up
            job = job_;
            active_++;
        }
        for (int64_t i = next_++; i < count_; i = next_++)
            (*job)(i, scratch);
        std::lock_guard lock(mutex_);
        if (--active_ == 0) finished_.notify_one();
    }
}

void ThreadPool::run(int64_t count, std::byte* caller_scratch, const Job& job) {
    const bool alone = workers_.empty() || count < 2 || getpid() != owner_process_;
    if (alone || !busy_.try_lock()) {
        for (int64_t i = 0; i < count; i++)
            job(i, caller_scratch);
        return;
    }
    std::lock_guard run(busy_, std::adopt_lock);
    {
        std::lock_guard lock(mutex_);
        job_ = &job;
        count_ = count;
        next_ = 0;
        round_++;
    }
    wake_.notify_all();
    for (int64_t i = next_++; i < count; i = next_++)
        job(i, caller_scratch);
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return active_ == 0; });
    job_ = nullptr;
}

}  // namespace kvc
