// Deterministic test data, defined for every language in docs/SCRIPTS.md. A value depends on the seed, the sequence's
// data number, layer, part, position, head and channel, never on how a stream is cut into steps.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace kvc_reference {

enum class Part : uint64_t { keys = 1, values = 2, queries = 3, scores = 4, sink_logits = 5, clusters = 6 };
enum class Kind { normal, sharp, constant, zero, outlier, tiny, extreme, huge, nan, inf };
enum class Element { f32, f16, bf16 };

constexpr uint64_t golden_ratio = 0x9e3779b97f4a7c15u;

constexpr uint64_t mix(uint64_t z) {  // the output function of SplitMix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
constexpr uint64_t key(uint64_t from, uint64_t number) { return mix(from + golden_ratio * (number + 1)); }

// Sum of four 16-bit numbers around zero: -131070 .. 131070, bell-shaped.
constexpr int64_t bell(uint64_t row_key, uint64_t element) {
    const uint64_t bits = key(row_key, element);
    return static_cast<int64_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)) - 131070;
}

// A plain generator for choices, not for data.
class Choices {
public:
    explicit Choices(uint64_t seed) : state_(seed) {}
    uint64_t next() { return mix(state_ += golden_ratio); }
    int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
    int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
    bool one_in(int64_t n) { return below(n) == 0; }
    template <typename T>
    const T& of(const std::vector<T>& list) {
        return list[static_cast<size_t>(below(static_cast<int64_t>(list.size())))];
    }

private:
    uint64_t state_;
};

struct Stream {
    uint64_t seed = 0, data = 0;
    Kind kind = Kind::normal;
    Element element = Element::f32;
};

inline float element_value(const Stream& s, uint64_t row_key, int64_t index, int64_t channel) {
    const int64_t n = bell(row_key, static_cast<uint64_t>(index));
    float x = s.element == Element::f32   ? static_cast<float>(n) / 65536.0f
              : s.element == Element::f16 ? static_cast<float>(n >> 7) / 512.0f
                                          : static_cast<float>(n >> 10) / 64.0f;
    switch (s.kind) {
    case Kind::zero:
        return 0.0f;
    case Kind::sharp:
        return x * 16.0f;
    case Kind::outlier:
        return channel % 16 == 3 ? x * 32.0f : x;
    case Kind::tiny:
        return x / 16384.0f;  // below 1, fp16's subnormal numbers
    case Kind::extreme:
        return n < 0 ? -65280.0f : 65280.0f;
    case Kind::huge:
        return std::copysign(s.element == Element::f16 ? std::numeric_limits<float>::infinity() : 131072.0f, n < 0 ? -1.0f : 1.0f);
    default:
        return x;
    }
}

constexpr uint64_t row_key(uint64_t seed, uint64_t data, int64_t layer, Part part, uint64_t position) {
    return key(key(key(seed, data), static_cast<uint64_t>(layer) * 8 + static_cast<uint64_t>(part)), position);
}

// One row [heads, dim] of a stream. For nan and inf the caller overwrites the last element of its buffer.
inline void fill_row(const Stream& s, int64_t layer, Part part, int64_t position, int64_t heads, int64_t dim, float* out) {
    const uint64_t row = row_key(s.seed, s.data, layer, part, s.kind == Kind::constant ? 0 : static_cast<uint64_t>(position));
    for (int64_t i = 0; i < heads * dim; ++i)
        out[i] = element_value(s, row, i, i % dim);
}

inline std::vector<float> rows(const Stream& s, int64_t layer, Part part, int64_t position, int64_t tokens, int64_t heads,
                               int64_t dim) {
    std::vector<float> out(static_cast<size_t>(tokens * heads * dim));
    for (int64_t t = 0; t < tokens; ++t)
        fill_row(s, layer, part, position + t, heads, dim, out.data() + t * heads * dim);
    return out;
}

}  // namespace kvc_reference
