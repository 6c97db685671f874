#include "core/codec/canonical.h"

#include <cassert>
#include <cstring>

#include "core/codec/canonical_body.h"

namespace kvc {

int64_t group_count(const Codec& codec, int64_t dim) {
    if (codec.axis == Axis::channel) {
        return page_tokens / codec.group * dim;
    }
    return page_tokens * (codec.group ? dim / codec.group : 1);
}

void encode_part(const Codec& codec, int dim, const float* x, CanonicalPart* out) {
    assert(!is_16_bit(codec.type));
    encode_part_body(codec, dim, x, out);
}

void decode_part(const Codec& codec, int dim, const CanonicalPart& part, float* x) {
    assert(!is_16_bit(codec.type));
    decode_part_body(codec, dim, part, x);
}

void rotate(float* x, int dim) { rotate_row(x, dim); }

bool same_part(const Codec& codec, int dim, const CanonicalPart& a, const CanonicalPart& b) {
    const auto equal = [](const auto* x, const auto* y, int64_t n) { return std::memcmp(x, y, size_t(n) * sizeof *x) == 0; };
    const int64_t groups = group_count(codec, dim);
    const int64_t tiles = codec.m8 ? page_tokens / codec.group : 0;
    return equal(a.codes, b.codes, page_tokens * dim) && equal(a.scales, b.scales, groups) &&
           (codec.symmetric || equal(a.zeros, b.zeros, groups)) && equal(a.super_scale, b.super_scale, tiles) &&
           equal(a.super_zero, b.super_zero, tiles);
}

}  // namespace kvc
