// How one layer's keys and values are coded. The bytes are defined in docs/FORMATS.md; presets in codecs.def.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace kvc {

constexpr int page_tokens = 64;
constexpr int dim_limit = 256;

enum class CodeType : uint8_t {
    f16,
    bf16,
#define KVC_CODE_TYPE(name, bits, high, step) name,
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
};
// channel: one scale for `group` tokens of one channel. token: one scale for `group` channels of one token.
enum class Axis : uint8_t { channel, token };
enum class Fit : uint8_t { minmax, least_squares };

struct Codec {
    CodeType type = CodeType::f16;
    Axis axis = Axis::token;
    int group = 0;           // tokens (32 or 64) or channels (16, 32, 64, 128); 0 on the token axis = the whole head dim
    bool symmetric = false;  // value = scale * (code - middle), no stored zero point
    bool m8 = false;         // 8-bit scale and zero under one fp16 pair per 32-token (or group) tile; channel axis only
    Fit fit = Fit::minmax;   // least_squares: symmetric, token axis
    float clip = 1.0f;       // part of the min/max range that is kept
    bool rotate = false;     // stored in the Hadamard basis

    bool operator==(const Codec&) const = default;
};

struct CodecPair {
    Codec k, v;
    int64_t window = 0;  // W of the visibility rule
    int64_t sinks = 0;   // S

    bool operator==(const CodecPair&) const = default;
};

constexpr int64_t window_limit = int64_t{1} << 20;
constexpr int64_t sinks_limit = 64;  // a span of sinks is at most one tile

int bits_of(CodeType type);
// How many of the bits lie in a plane of their own; 0: all lie in one.
int high_bits_of(CodeType type);
bool is_16_bit(CodeType type);
// The code of 0 without a zero point: value = scale * (code - middle). Between two codes for least squares; 0 with a zero point.
float middle_of(const Codec& codec);

// Whether the options go together, whatever the head dim; part is "k" or "v" and opens the message.
Status check_codec(const Codec& codec, const char* part);
// The same of a pair: both parts, window and sinks, and one 16-bit type.
Status check_codec_pair(const CodecPair& pair);

// Parses a preset name or a codec string; the one place that knows the grammar.
Result<CodecPair> parse_codec(std::string_view text);
// The canonical string: parse_codec(format_codec(c)) == c.
std::string format_codec(const CodecPair& pair);

int preset_count();
const char* preset_name(int index);  // nullptr out of range

}  // namespace kvc
