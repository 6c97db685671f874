// SHA-256 (FIPS 180-4).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace kvc {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
public:
    void add(const void* data, size_t bytes);
    // Ends the message; the object is used up.
    Digest finish();

private:
    void add_block(const uint8_t* block);

    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> rest_ = {};  // of a block that is not full yet
    uint64_t length_ = 0;                // bytes so far
};

}  // namespace kvc
