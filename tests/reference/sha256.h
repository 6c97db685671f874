// SHA-256 (FIPS 180-4), so that replays of a script in any language can be compared by one line of text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kvc_reference {

class Sha256 {
public:
    void add(const void* data, size_t bytes);
    template <typename T>
    void add_value(T value) {
        add(&value, sizeof value);
    }  // little-endian machines only
    std::string hex() const;  // of everything added so far; more may be added afterwards

private:
    void block(const uint8_t* bytes);
    void finish();

    std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> pending_{};
    size_t pending_bytes_ = 0;
    uint64_t total_bytes_ = 0;
};

}  // namespace kvc_reference
