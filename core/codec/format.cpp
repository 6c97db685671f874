// Record layouts. Every offset is even, every plane of codes starts at a multiple of 64 bytes.
#include "core/codec/format.h"

#include "core/codec/canonical.h"

namespace kvc {
namespace {

constexpr int64_t record_unit = 128;

Status check_dim(const Codec& codec, int64_t dim, const char* part) {
    if (dim < 16 || dim > dim_limit || dim % 16 != 0) {
        return fail(Code::unsupported, "format: ", part, "_dim ", dim, " (a multiple of 16 from 16 to ", dim_limit, ")");
    }
    if (codec.axis == Axis::token && codec.group && dim % codec.group != 0) {
        return fail(Code::unsupported, "format: ", part, ": groups of ", codec.group, " channels do not divide ", part, "_dim ", dim);
    }
    return {};
}

// Bytes of codes, metadata and super pairs; their places are set by place().
PartLayout measure(const Codec& codec, int64_t dim) {
    PartLayout part;
    part.codes_bytes = page_tokens * dim * bits_of(codec.type) / 8;
    if (is_16_bit(codec.type)) {
        return part;
    }
    const int64_t numbers = group_count(codec, dim) * (codec.symmetric ? 1 : 2);
    part.meta_bytes = numbers * (codec.m8 ? 1 : 2);
    part.super_bytes = codec.m8 ? page_tokens / codec.group * 4 : 0;
    return part;
}

// Keys' codes, values' codes, keys' metadata, values' metadata, super pairs; returns the end.
int64_t place(const LayerFormat& format, PartLayout* k, PartLayout* v) {
    int64_t at = 0;
    const auto put = [&at](int64_t bytes) {
        const int64_t start = at;
        at += bytes;
        return start;
    };
    const auto put_codes = [&put](PartLayout* part, const Codec& codec, int64_t dim) {
        part->codes = put(part->codes_bytes);
        const int high = high_bits_of(codec.type);
        part->high_plane = high > 0 ? part->codes + page_tokens * dim * (bits_of(codec.type) - high) / 8 : 0;
    };
    put_codes(k, format.codec.k, format.k_dim);
    put_codes(v, format.codec.v, format.v_dim);
    k->meta = put(k->meta_bytes);
    v->meta = put(v->meta_bytes);
    k->super = put(k->super_bytes);
    v->super = put(v->super_bytes);
    return at;
}

}  // namespace

Result<LayerFormat> make_format(const CodecPair& codec, int64_t k_dim, int64_t v_dim) {
    if (Status status = check_codec_pair(codec); !status.ok()) {
        return status;
    }
    if (Status status = check_dim(codec.k, k_dim, "k"); !status.ok()) {
        return status;
    }
    if (Status status = check_dim(codec.v, v_dim, "v"); !status.ok()) {
        return status;
    }
    LayerFormat format;
    format.codec = codec;
    format.k_dim = int(k_dim);
    format.v_dim = int(v_dim);
    format.bf16_window = codec.k.type == CodeType::bf16;
    format.lossless = is_16_bit(codec.k.type) && is_16_bit(codec.v.type);
    format.k = measure(codec.k, k_dim);
    format.v = measure(codec.v, v_dim);
    format.code_bytes = round_up(place(format, &format.k, &format.v), record_unit);
    format.window_bytes = page_tokens * (k_dim + v_dim) * 2;
    format.sink_bytes = round_up(codec.sinks * (k_dim + v_dim) * 2, record_unit);
    return format;
}

LayerFormat window_as_codes(const LayerFormat& format) {
    LayerFormat rows = format;
    rows.codec.k.type = rows.codec.v.type = format.bf16_window ? CodeType::bf16 : CodeType::f16;
    rows.lossless = true;
    rows.k = measure(rows.codec.k, rows.k_dim);
    rows.v = measure(rows.codec.v, rows.v_dim);
    rows.code_bytes = round_up(place(rows, &rows.k, &rows.v), record_unit);
    return rows;
}

double codec_bits(const LayerFormat& format) {
    return double(format.code_bytes) * 8 / double(page_tokens * (format.k_dim + format.v_dim));
}

}  // namespace kvc
