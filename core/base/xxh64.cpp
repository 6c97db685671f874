#include "core/base/xxh64.h"

#include <bit>

namespace kvc {
namespace {

constexpr uint64_t prime1 = 0x9E3779B185EBCA87u, prime2 = 0xC2B2AE3D27D4EB4Fu, prime3 = 0x165667B19E3779F9u,
                   prime4 = 0x85EBCA77C2B2AE63u, prime5 = 0x27D4EB2F165667C5u;
constexpr size_t stripe_bytes = 32;  // four lanes of eight

template <int bytes>
uint64_t number_at(const std::byte* at) {
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number |= uint64_t(at[i]) << (8 * i);
    return number;
}

uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * prime2, 31) * prime1; }
uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ round(0, lane)) * prime1 + prime4; }

}  // namespace

uint64_t xxh64(std::span<const std::byte> bytes) {
    const std::byte* at = bytes.data();
    size_t left = bytes.size();
    uint64_t hash = prime5;
    if (left >= stripe_bytes) {
        uint64_t lane[4] = {prime1 + prime2, prime2, 0, 0 - prime1};
        for (; left >= stripe_bytes; left -= stripe_bytes, at += stripe_bytes) {
            for (int i = 0; i < 4; i++)
                lane[i] = round(lane[i], number_at<8>(at + 8 * i));
        }
        hash = std::rotl(lane[0], 1) + std::rotl(lane[1], 7) + std::rotl(lane[2], 12) + std::rotl(lane[3], 18);
        for (const uint64_t each : lane)
            hash = merge(hash, each);
    }
    hash += bytes.size();
    for (; left >= 8; left -= 8, at += 8)
        hash = std::rotl(hash ^ round(0, number_at<8>(at)), 27) * prime1 + prime4;
    if (left >= 4) {
        hash = std::rotl(hash ^ number_at<4>(at) * prime1, 23) * prime2 + prime3;
        left -= 4, at += 4;
    }
    for (; left > 0; left--, at++)
        hash = std::rotl(hash ^ uint64_t(*at) * prime5, 11) * prime1;
    hash = (hash ^ hash >> 33) * prime2;
    hash = (hash ^ hash >> 29) * prime3;
    return hash ^ hash >> 32;
}

}  // namespace kvc
