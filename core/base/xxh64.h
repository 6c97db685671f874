// XXH64 (Yann Collet, https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), seed 0: the checksum of snapshots. It finds what disks and
// wires do to bytes; it is no protection against somebody who wants to deceive.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace kvc {

uint64_t xxh64(std::span<const std::byte> bytes);

}  // namespace kvc
