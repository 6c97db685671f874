// Files of snapshots: replaced as a whole or not at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/base/status.h"

namespace kvc {

struct FileBytes {
    std::unique_ptr<std::byte[]> data;
    int64_t bytes = 0;

    std::span<const std::byte> span() const { return {data.get(), size_t(bytes)}; }
};

// Writes beside the file, waits until the bytes are on the disk, and renames.
Status replace_file(const char* path, std::span<const std::byte> bytes);
// All of a snapshot file. Its header is looked at before room for the rest is taken.
Result<FileBytes> read_snapshot_file(const char* path);

}  // namespace kvc
