// Sizes and offsets: 64-bit arithmetic that remembers an overflow instead of wrapping.
#pragma once
#include <cstdint>

namespace kvc {

class Size {
public:
    constexpr Size(int64_t value) : value_(value), valid_(value >= 0) {}

    constexpr bool valid() const { return valid_; }
    // The number; only of a valid size.
    constexpr int64_t value() const { return value_; }

    friend constexpr Size operator+(Size a, Size b) {
        Size out(0);
        out.valid_ = !__builtin_add_overflow(a.value_, b.value_, &out.value_) && a.valid_ && b.valid_;
        return out;
    }
    friend constexpr Size operator*(Size a, Size b) {
        Size out(0);
        out.valid_ = !__builtin_mul_overflow(a.value_, b.value_, &out.value_) && a.valid_ && b.valid_;
        return out;
    }

private:
    int64_t value_;
    bool valid_;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t unit) { return ceil_div(a, unit) * unit; }

}  // namespace kvc
