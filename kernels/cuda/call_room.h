// Memory of a call that waits for its own results: what is sent, what comes back, and what kernels keep in between.
#pragma once
#include <algorithm>
#include <bit>

#include "core/base/size.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/source_page.h"

namespace kvc::cuda {

struct CallSizes {
    int64_t uploads = 0, results = 0, work = 0;

    // Room for n of T, as CallMemory and Tables take it.
    template <class T>
    static int64_t of(int64_t n) {
        return round_up(n * int64_t(sizeof(T)), 16);
    }
};

// Results and kernels' own memory, one piece behind the other at multiples of 16.
class CallMemory {
public:
    explicit CallMemory(std::byte* at) : at_(at) {}
    template <class T>
    T* take(int64_t n) {
        T* const piece = reinterpret_cast<T*>(at_);
        at_ += CallSizes::of<T>(n);
        return piece;
    }

private:
    std::byte* at_;
};

// Where the list's records lie, as kernels find them.
inline const SourcePage* add_sources(const TokenList& tokens, Tables* tables) {
    const SourcePage* there = nullptr;
    SourcePage* const pages = tables->reserve(tokens.n_sources, &there);
    const auto page_of = [](const TokenSource& source) { return source_page(source); };
    std::transform(tokens.sources, tokens.sources + tokens.n_sources, pages, page_of);
    return there;
}

// One call's at a time: a call has waited for its work when it returns.
struct CallRoom {
    static constexpr int64_t least = 16 * 1024;
    static constexpr int64_t kept = int64_t{16} << 20;  // what is larger is given back after the call

    PinnedBlock host;  // uploads, then results
    std::byte* device = nullptr;
    int64_t device_bytes = 0;  // uploads, results, work

    static int64_t rounded(int64_t bytes) { return int64_t(std::bit_ceil(uint64_t(std::max(bytes, least)))); }
    UploadRing::Piece uploads(const CallSizes& sizes) const { return {host.data(), device, sizes.uploads}; }
    std::byte* results_here(const CallSizes& sizes) const { return host.data() + sizes.uploads; }
    std::byte* results_there(const CallSizes& sizes) const { return device + sizes.uploads; }
    std::byte* work(const CallSizes& sizes) const { return device + sizes.uploads + sizes.results; }
};

}  // namespace kvc::cuda
