// What a snapshot and a cache must agree on, and what a snapshot consists of: header, sections, checksums.
#include <algorithm>
#include <cstring>

#include "core/base/xxh64.h"
#include "core/cache/snapshot.h"

namespace kvc {
namespace {

constexpr size_t shown_characters = 70;  // of a line in a message

// Frequencies as binary32, so that the last bit of a machine's pow() makes no other layout.
uint64_t digest_of(const std::vector<double>& frequencies) {
    std::vector<std::byte> bytes(frequencies.size() * sizeof(float));
    ByteWriter out(bytes.data());
    for (const double x : frequencies)
        out.put(std::bit_cast<uint32_t>(float(x)));
    return xxh64(bytes);
}

std::string hex(uint64_t number) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
    return text;
}

std::string_view line_of(std::string_view text, size_t at) {
    const size_t begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;  // npos + 1 is 0
    const size_t end = text.find('\n', at);
    return text.substr(begin, end == std::string_view::npos ? end : end - begin);
}

// What a stranger's bytes look like in a message: the part of a long line in which it differs from another.
std::string shown(std::string_view line, size_t differs = 0) {
    const size_t from = differs < shown_characters ? 0 : std::min(line.size(), differs - shown_characters / 2);
    std::string out(line.substr(from, shown_characters));
    for (char& c : out)
        c = c >= ' ' && c <= '~' ? c : '?';
    return out.empty() ? "nothing" : (from > 0 ? "\"... " : "\"") + out + "\"";
}

Status damaged(const char* what) { return fail(Code::corrupt, "snapshot: ", what); }

}  // namespace

std::string layout_text(const std::vector<Layer>& layers, const RopeConfig& rope, const PolicySpec& policy) {
    std::string text = "kvc layout 1\n";
    const auto line = [&text](const auto&... parts) { text += (text_of(parts) + ...) + "\n"; };
    line("layers ", int64_t(layers.size()));
    line("policy ", policy ? format_policy(policy) : "none");
    line("keys ", rope.keys_before ? "before RoPE" : "after RoPE");
    line("positions ", rope.in_cache ? "in-cache" : "true");
    if (rope.keys_before || rope.in_cache) line("rope_pairs ", rope.interleaved ? "interleaved" : "halves");
    for (size_t i = 0; i < layers.size(); i++) {
        const Layer& layer = layers[i];
        const std::string name = "layer " + std::to_string(i) + " ";
        line(name, "kv_heads ", layer.kv_heads, " q_heads ", layer.q_heads);
        line(name, "k_dim ", layer.format.k_dim, " v_dim ", layer.format.v_dim);
        line(name, "codec ", format_ladder(ladder_of(layer)));
        line(name, "sliding_window ", layer.rule.sliding_window, " spare_pages ", layer.rule.spare);
        if (layer.rope_frequencies.empty()) continue;
        line(name, "rope_dims ", int64_t(layer.rope_frequencies.size() * 2), " frequencies ", hex(digest_of(layer.rope_frequencies)));
    }
    return text;
}

Status layout_difference(std::string_view theirs, std::string_view ours) {
    const size_t shorter = std::min(theirs.size(), ours.size());
    const size_t at =
        size_t(std::mismatch(theirs.begin(), theirs.begin() + std::ptrdiff_t(shorter), ours.begin()).first - theirs.begin());
    const size_t line_begin = at == 0 ? 0 : ours.rfind('\n', at - 1) + 1;  // npos + 1 is 0
    return fail(Code::argument, "snapshot: it is of another cache: ", shown(line_of(theirs, at), at - line_begin), " there, ",
                shown(line_of(ours, at), at - line_begin), " here");
}

Result<int64_t> check_snapshot_header(std::span<const std::byte> bytes) {
    if (int64_t(bytes.size()) < int64_t(sizeof snapshot_magic) || std::memcmp(bytes.data(), snapshot_magic, sizeof snapshot_magic) != 0)
        return damaged("the bytes do not begin as one");
    if (int64_t(bytes.size()) < snapshot_header_bytes) return damaged("it ends within its header");
    ByteReader in(bytes.subspan(sizeof snapshot_magic, size_t(snapshot_header_bytes) - sizeof snapshot_magic));
    const auto version = in.get<uint32_t>();
    (void)in.get<uint32_t>();
    const auto total = in.get<uint64_t>();
    (void)in.get<uint64_t>();
    if (in.get<uint64_t>() != xxh64(bytes.first(size_t(snapshot_header_bytes - checksum_bytes))))
        return damaged("the checksum of its header differs");
    if (version != snapshot_version) {
        return fail(Code::unsupported, "snapshot: its version is ", int64_t(version), ", this library reads ",
                    int64_t(snapshot_version));
    }
    if (total > uint64_t(INT64_MAX)) return damaged("its size is out of range");
    return int64_t(total);
}

Result<SnapshotParts> split_snapshot(std::span<const std::byte> bytes) {
    Result<int64_t> total = check_snapshot_header(bytes);
    if (!total.ok()) return total.status();
    if (*total != int64_t(bytes.size())) {
        return fail(Code::corrupt, "snapshot: it has ", *total, " bytes, ", int64_t(bytes.size()), " were given");
    }
    ByteReader in(bytes);
    in.take(int64_t(sizeof snapshot_magic) + 4);
    const auto n_sections = in.get<uint32_t>();
    (void)in.get<uint64_t>();
    SnapshotParts parts;
    parts.total_bytes = *total;
    parts.layout_id = in.get<uint64_t>();
    (void)in.get<uint64_t>();
    constexpr uint32_t order[] = {layout_section, sequences_section, pages_section};
    std::span<const std::byte> found[3];
    size_t next = 0;
    for (uint32_t i = 0; i < n_sections; i++) {
        const int64_t start = in.at();
        const auto tag = in.get<uint32_t>(), flags = in.get<uint32_t>();
        const auto length = in.get<uint64_t>();
        if (in.ran_short() || length > uint64_t(in.left())) return damaged("a section is longer than the rest of it");
        const std::span<const std::byte> payload = in.take(int64_t(length));
        const std::span<const std::byte> covered = bytes.subspan(size_t(start), size_t(in.at() - start));
        if (in.get<uint64_t>() != xxh64(covered) || in.ran_short()) return damaged("the checksum of a section differs");
        if (next < std::size(order) && tag == order[next] && flags == section_required) {
            found[next++] = payload;
        } else if ((flags & section_required) || std::find(std::begin(order), std::end(order), tag) != std::end(order)) {
            const char name[5] = {char(tag), char(tag >> 8), char(tag >> 16), char(tag >> 24), 0};
            return fail(Code::unsupported, "snapshot: this library cannot read its section ", shown(name), "; a newer one may");
        }
    }
    if (next != std::size(order)) return damaged("a section is missing");
    if (in.left() != 0) return damaged("bytes follow its last section");
    parts.layout = {reinterpret_cast<const char*>(found[0].data()), found[0].size()};
    parts.sequences = found[1];
    parts.pages = found[2];
    if (parts.layout_id != xxh64(found[0])) return damaged("its layout id is not that of its layout");
    return parts;
}

}  // namespace kvc
