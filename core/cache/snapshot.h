// Snapshots: sequences as bytes, and back (docs/SNAPSHOT.md). Export counts, asks for memory and writes; import checks everything,
// then takes memory, then fills it, so that a failure leaves nothing behind.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/cache/cache.h"
#include "core/cache/snapshot_records.h"

namespace kvc {

constexpr uint8_t snapshot_magic[8] = {0x89, 'K', 'V', 'C', 'S', '\r', '\n', 0x1a};
constexpr uint32_t snapshot_version = 1;
constexpr int64_t snapshot_header_bytes = 40;
constexpr int64_t section_header_bytes = 16, checksum_bytes = 8;
constexpr uint32_t section_required = 1;  // flag: a reader that does not know the section must refuse the snapshot

// Four letters as they lie in the file.
constexpr uint32_t section_tag(const char (&name)[5]) {
    return uint32_t(uint8_t(name[0])) | uint32_t(uint8_t(name[1])) << 8 | uint32_t(uint8_t(name[2])) << 16 |
           uint32_t(uint8_t(name[3])) << 24;
}
constexpr uint32_t layout_section = section_tag("LAYO"), sequences_section = section_tag("SEQS"), pages_section = section_tag("PAGE");

// Longest sequence that is exported or imported: products of a length with layers and heads stay far from 2^63.
constexpr int64_t snapshot_length_limit = int64_t{1} << 40;

// What must be equal for a sequence to go on as it would have, as text: one fact a line.
std::string layout_text(const std::vector<Layer>& layers, const RopeConfig& rope, const PolicySpec& policy);
// Two texts that differ: where first.
Status layout_difference(std::string_view theirs, std::string_view ours);

// The sections of a snapshot whose checksums hold.
struct SnapshotParts {
    int64_t total_bytes = 0;
    uint64_t layout_id = 0;
    std::string_view layout;
    std::span<const std::byte> sequences, pages;
};

// Size and checksum of the header alone; the first snapshot_header_bytes suffice.
Result<int64_t> check_snapshot_header(std::span<const std::byte> bytes);
Result<SnapshotParts> split_snapshot(std::span<const std::byte> bytes);

// A record that an import will fill, and where its bytes are.
struct RecordDraft {
    uint32_t layer = 0;
    RecordForm form = RecordForm::codes;
    bool writable = false;  // the sequence that refers to it may still write it: nobody else may
    std::span<const std::byte> bytes;
    int64_t rung = 0;  // of the layer's ladder
};

// Sequences as they will be, with 1 + the number of a draft in the place of every record id. It refers to the snapshot's bytes.
struct SnapshotDraft {
    std::string layout;  // that of the cache when it was compared
    std::vector<std::unique_ptr<Sequence>> sequences;
    std::vector<RecordDraft> records;
};

// What sequences of a cache must obey, whoever made them; "" or what is wrong.
std::string check_sequence(const Sequence& sequence, const std::vector<Layer>& layers, const PolicySpec& policy);
std::string check_state(const Sequence& sequence, const LayerPages& pages, const Layer& layer, const PolicySpec& policy);
// After the head's tables have been read: masks, positions and counters.
std::string check_head(const Sequence& sequence, size_t layer, const HeadPages& head, const Layer& shape, const PolicySpec& policy,
                       std::span<const RecordDraft> records);

}  // namespace kvc
