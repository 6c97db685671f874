// Numbers of records of each size at several moments, as far as they matter for the most memory: moments at which another one has as
// many of every size are left out.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace kvc {

class RecordPeaks {
public:
    explicit RecordPeaks(size_t sizes) : sizes_(sizes) {}

    size_t count() const { return sizes_ == 0 ? 0 : counts_.size() / sizes_; }
    std::span<const int64_t> operator[](size_t i) const { return std::span(counts_).subspan(i * sizes_, sizes_); }

    void add(std::span<const int64_t> counts) {
        const auto below = [&](std::span<const int64_t> a, std::span<const int64_t> b) {
            return std::equal(a.begin(), a.end(), b.begin(), [](int64_t x, int64_t y) { return x <= y; });
        };
        for (size_t i = count(); i-- > 0;) {  // neighbours are the most alike
            if (below(counts, (*this)[i])) return;
        }
        for (size_t i = count(); i-- > 0;) {
            if (!below((*this)[i], counts)) continue;
            std::copy(counts_.end() - std::ptrdiff_t(sizes_), counts_.end(), counts_.begin() + std::ptrdiff_t(i * sizes_));
            counts_.resize(counts_.size() - sizes_);
        }
        counts_.insert(counts_.end(), counts.begin(), counts.end());
    }

private:
    size_t sizes_;
    std::vector<int64_t> counts_;
};

}  // namespace kvc
