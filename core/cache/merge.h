// Merging: tokens that leave are folded into kept ones. What is folded into one page is gathered first, so that the page is coded once.
#pragma once
#include <vector>

#include "core/cache/config.h"
#include "core/cache/repack.h"
#include "core/policy/merging.h"

namespace kvc {

// A page in which tokens are folded, with its new bytes: written over its record where that is private, into a new one where forks share it.
struct PageRewrite {
    KernelTable::Form form;
    size_t entry;                  // of the table of codes or of the window
    std::vector<std::byte> bytes;  // empty where a device makes them
    RecordId record = 0;
};

// Whether tokens of a layer can be merged like that; otherwise the message says what stands against it.
Status check_merging(const MergeRule& rule, const KernelTable& table, const RopeConfig& rope, const Layer& layer, int64_t index);

}  // namespace kvc
