// How jobs travel: tables one behind the other in an upload, and launches over runs of them.
#pragma once
#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "core/backend/executor.h"
#include "core/base/size.h"
#include "kernels/cuda/upload_ring.h"

namespace kvc::cuda {

constexpr int64_t grid_limit = 65535;  // blocks of a launch in y, which are jobs here

// Calls launch(first, n) for runs of jobs that may share a launch.
template <class Alike, class Launch>
void for_each_run(int64_t n_jobs, const Alike& alike, const Launch& launch) {
    for (int64_t first = 0, end = 0; first < n_jobs; first = end) {
        while (end < n_jobs && end - first < grid_limit && alike(first, end)) {
            end++;
        }
        launch(first, end - first);
    }
}

inline bool all_alike(int64_t, int64_t) { return true; }

template <class Job>
int64_t most_tokens(std::span<const Job> jobs) {
    int64_t most = 0;
    for (const Job& job : jobs) {
        most = std::max(most, job.tokens);
    }
    return most;
}

template <class T>
int64_t bytes_of(int64_t n) {
    return n * int64_t(sizeof(T));
}

// Tables one behind the other in an upload, at multiples of 16, and where each will lie on the device.
class Tables {
public:
    explicit Tables(const UploadRing::Piece& piece) : piece_(piece) {}

    template <class T>
    const T* add(const T* from, int64_t n) {
        if (n == 0) {
            return nullptr;
        }
        std::memcpy(piece_.host + used_, from, size_t(bytes_of<T>(n)));
        const auto* const at = reinterpret_cast<const T*>(piece_.device + used_);
        used_ += round_up(bytes_of<T>(n), 16);
        return at;
    }
    // The item with its tables in the upload. counts: where these are already, or nullptr.
    AttendItem rewrite(AttendItem item, const TokenCount* counts = nullptr) {
        item.coded = add(item.coded, item.n_coded);
        item.window = add(item.window, item.n_window);
        item.counts = counts ? counts : add(item.counts, item.n_counts);
        return item;
    }
    // Where keys come before RoPE: with its frequencies in the upload.
    std::optional<Rope> rewrite(const Rope* rope) {
        if (!rope) {
            return std::nullopt;
        }
        return Rope{add(rope->frequencies, rope->dims / 2), rope->dims, rope->interleaved};
    }
    // To be filled in place.
    template <class T>
    T* reserve(int64_t n, const T** device) {
        T* const host = reinterpret_cast<T*>(piece_.host + used_);
        *device = reinterpret_cast<const T*>(piece_.device + used_);
        used_ += round_up(bytes_of<T>(n), 16);
        return host;
    }
    int64_t used() const { return used_; }

private:
    UploadRing::Piece piece_;
    int64_t used_ = 0;
};

// What rewrite() adds for an item, with its counts or without.
inline int64_t item_bytes(const AttendItem& item, bool counts = true) {
    return bytes_of<PageEntry>(item.n_coded + item.n_window) + (counts ? round_up(bytes_of<TokenCount>(item.n_counts), 16) : 0);
}
static_assert(sizeof(PageEntry) == 16);

inline int64_t rope_bytes(const Rope* rope) { return rope ? round_up(bytes_of<double>(rope->dims / 2), 16) : 0; }

// What the params of one launch are on the device.
inline AttendParams on_device(AttendParams params, std::byte* const* slabs, const std::optional<Rope>& rope) {
    params.arena = {slabs};
    params.rope = rope ? &*rope : nullptr;
    return params;
}

}  // namespace kvc::cuda
