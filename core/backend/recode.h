// What a device does to the records of coded pages by itself: new pages out of tokens of others. A repack gathers tokens of several pages,
// a step-down gives a page's tokens a lower format.
#pragma once
#include "core/backend/kernel_table.h"

namespace kvc {

// A coded page that tokens come from.
struct RecodeSource {
    const LayerFormat* format;  // of its code record, which holds 16-bit rows if that is lossless
    const std::byte* record;
    const std::byte* side;   // its PageSide, or nullptr: slot t is of position first_position + t
    int64_t first_position;  // unused where no positions are asked for
};

// New numbers of a token that others joined, in the basis of append; of the device's memory.
struct FoldedRow {
    const float* k;  // nullptr: its key stays
    const float* v;
};

// One new code record. Its slot t takes the token in slots[t] of sources[page[t]]; what has fewer than 64 tokens repeats one of them, so
// that no group's range widens.
//
// A part that is coded per token moves as it is, codes and metadata, from a source of the new record's own format (the same object).
// Everything else is read as KernelTable::read does, rounded to 16 bits as store does when it saturates, and coded as by quantize. Numbers
// must be finite. A part with new numbers is of those instead, rotated once more where that of its record is: it never moves as it is.
struct RecodeParams {
    const LayerFormat* format;
    std::byte* record;
    std::byte* side;  // takes the tokens' positions; nullptr: nobody asks for them
    const RecodeSource* sources;
    int64_t n_sources;  // 1 .. 64
    uint8_t page[page_tokens], slots[page_tokens];
    // Rows of rotated parts leave the stored basis and come back to it, two rotations in f32, as if they were appended anew.
    bool through_append;
    // Ascending over the jobs of a call. Jobs of one round run side by side, rounds one behind the other. So a job may write over its own
    // sources, and over those of earlier rounds, and never over what another job of its round or of a later one reads.
    int64_t round;
    uint64_t folded = 0;               // bit t: slot t has new numbers
    const FoldedRow* folds = nullptr;  // of those slots, one behind the other
    // The keys of the one source, whose slots these are, stay as they are, whatever they were coded by.
    bool keeps_keys = false;
};

// Whether a part of a token in a page of format `from` moves as it is to a record of format `to`.
inline bool moves_coded(const LayerFormat& from, const LayerFormat& to, const Codec& part) {
    return &from == &to && !is_16_bit(part.type) && part.axis == Axis::token;
}

}  // namespace kvc
