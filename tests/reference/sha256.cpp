#include "tests/reference/sha256.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace kvc_reference {
namespace {

bool is_prime(uint32_t n) {
    for (uint32_t d = 2; d * d <= n; ++d)
        if (n % d == 0) return false;
    return true;
}

// The round constants are the first 32 bits of the fractions of the cube roots of the first 64 primes.
std::array<uint32_t, 64> round_constants() {
    std::array<uint32_t, 64> constants{};
    uint32_t prime = 1;
    for (uint32_t& constant : constants) {
        do
            ++prime;
        while (!is_prime(prime));
        const long double root = std::cbrt(static_cast<long double>(prime));
        constant = static_cast<uint32_t>((root - std::floor(root)) * 4294967296.0L);
    }
    return constants;
}

}  // namespace

void Sha256::block(const uint8_t* bytes) {
    static const std::array<uint32_t, 64> constants = round_constants();
    std::array<uint32_t, 64> w{};
    for (size_t i = 0; i < 16; ++i)
        w[i] = uint32_t{bytes[4 * i]} << 24 | uint32_t{bytes[4 * i + 1]} << 16 | uint32_t{bytes[4 * i + 2]} << 8 | bytes[4 * i + 3];
    for (size_t i = 16; i < 64; ++i) {
        const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (size_t i = 0; i < 64; ++i) {
        const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
        const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
        const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<uint32_t, 8> added{a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i)
        state_[i] += added[i];
}

void Sha256::add(const void* data, size_t bytes) {
    const auto* from = static_cast<const uint8_t*>(data);
    total_bytes_ += bytes;
    while (bytes > 0) {
        const size_t n = std::min(bytes, pending_.size() - pending_bytes_);
        std::memcpy(pending_.data() + pending_bytes_, from, n);
        pending_bytes_ += n, from += n, bytes -= n;
        if (pending_bytes_ == pending_.size()) block(pending_.data()), pending_bytes_ = 0;
    }
}

void Sha256::finish() {
    const uint64_t bits = total_bytes_ * 8;
    const uint8_t one = 0x80, zero = 0;
    add(&one, 1);
    while (pending_bytes_ != 56)
        add(&zero, 1);
    for (int shift = 56; shift >= 0; shift -= 8)
        add_value(static_cast<uint8_t>(bits >> shift));
}

std::string Sha256::hex() const {
    Sha256 copy = *this;
    copy.finish();
    std::string text;
    for (uint32_t word : copy.state_)
        for (int shift = 28; shift >= 0; shift -= 4)
            text += "0123456789abcdef"[(word >> shift) & 15];
    return text;
}

}  // namespace kvc_reference
