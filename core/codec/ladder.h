// Ladders of codecs: the forms that a page takes one after the other as it is stepped down. docs/PRECISION.md.
#pragma once
#include <vector>

#include "core/codec/codec.h"

namespace kvc {

constexpr size_t rung_limit = 6;
constexpr int64_t age_limit = int64_t{1} << 40;

struct Ladder {
    std::vector<CodecPair> rungs;  // at least one; window and sinks are the same in all
    std::vector<int64_t> ages;     // of each rung: tokens behind the newest one at which a page takes it; 0: by hand only
};

// A codec string, or several: codec { "/" codec [ "@" age ] }.
Result<Ladder> parse_ladder(std::string_view text);
// The canonical string, format_codec's if there is one rung.
std::string format_ladder(const Ladder& ladder);

}  // namespace kvc
