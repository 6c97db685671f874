// Which options of a codec go together, whatever the head dim.
#include <initializer_list>

#include "core/codec/codec.h"

namespace kvc {

int bits_of(CodeType type) {
    switch (type) {
    case CodeType::f16:
    case CodeType::bf16:
        return 16;
#define KVC_CODE_TYPE(name, bits, high, step) \
    case CodeType::name:                      \
        return bits;
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
    }
    return 0;
}

int high_bits_of(CodeType type) {
    switch (type) {
#define KVC_CODE_TYPE(name, bits, high, step) \
    case CodeType::name:                      \
        return high;
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
    default:
        return 0;
    }
}

bool is_16_bit(CodeType type) { return type == CodeType::f16 || type == CodeType::bf16; }

float middle_of(const Codec& codec) {
    const int levels = 1 << bits_of(codec.type);
    if (!codec.symmetric) {
        return 0.0f;
    }
    return float(codec.fit == Fit::least_squares ? levels - 1 : levels) / 2;
}

static bool any_of(int value, std::initializer_list<int> allowed) {
    for (const int a : allowed) {
        if (a == value) {
            return true;
        }
    }
    return false;
}

Status check_codec(const Codec& codec, const char* part) {
    if (bits_of(codec.type) == 0) {
        return fail(Code::argument, "codec: ", part, ": unknown type ", int(codec.type));
    }
    if (is_16_bit(codec.type)) {
        const Codec plain{.type = codec.type};
        return codec == plain ? Status{} : fail(Code::unsupported, "codec: ", part, ": f16 and bf16 take no options");
    }
    if (codec.axis == Axis::channel && !any_of(codec.group, {32, 64})) {
        return fail(Code::unsupported, "codec: ", part, ": group of ", codec.group, " tokens (ch: g32 or g64)");
    }
    if (codec.axis == Axis::token && !any_of(codec.group, {0, 16, 32, 64, 128})) {
        return fail(Code::unsupported, "codec: ", part, ": group of ", codec.group,
                    " channels (tok: g16, g32, g64, g128, or the head dim)");
    }
    if (codec.m8 && (codec.axis != Axis::channel || codec.symmetric)) {
        return fail(Code::unsupported, "codec: ", part, ": m8 needs ch and a zero point (no tok, sym or ls)");
    }
    if (codec.fit == Fit::least_squares && (codec.axis != Axis::token || !codec.symmetric || codec.clip != 1.0f)) {
        return fail(Code::unsupported, "codec: ", part, ": ls needs tok, has no zero point and no clip");
    }
    if (!(codec.clip >= 0.5f && codec.clip <= 1.0f)) {
        return fail(Code::argument, "codec: ", part, ": clip ", double(codec.clip), " (0.5 to 1)");
    }
    return {};
}

Status check_codec_pair(const CodecPair& pair) {
    KVC_TRY(check_codec(pair.k, "k"));
    KVC_TRY(check_codec(pair.v, "v"));
    if ((pair.k.type == CodeType::bf16) != (pair.v.type == CodeType::bf16)) {
        return fail(Code::unsupported,
                    "codec: bf16 for one part only: window and sinks hold one 16-bit type, so k and v are both bf16 or neither");
    }
    if (pair.window < 0 || pair.window > window_limit) {
        return fail(Code::argument, "codec: window=", pair.window, " (0 to ", window_limit, ")");
    }
    if (pair.sinks < 0 || pair.sinks > sinks_limit) {
        return fail(Code::argument, "codec: sinks=", pair.sinks, " (0 to ", sinks_limit, ")");
    }
    return {};
}

}  // namespace kvc
