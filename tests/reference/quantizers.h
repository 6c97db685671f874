// Independent quantizers for the codecs of docs/FORMATS.md: one page of 64 tokens at a time, straight from the text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvc_reference {

constexpr int64_t page_tokens = 64;

struct PartCodec {
    int bits = 16;
    bool bf16 = false;         // 16 bits only
    bool per_channel = false;  // groups run over tokens of one channel; otherwise over channels of one token
    int64_t group = 0;         // 0 on the token axis: the whole head dim
    bool symmetric = false;
    bool m8 = false;
    bool least_squares = false;
    double clip = 1.0;
    bool rotated = false;
};

struct CodecSpec {
    PartCodec k, v;
    int64_t window = 0, sinks = 0;
    bool coded() const { return k.bits < 16 || v.bits < 16; }
};

// The presets as docs/FORMATS.md defines them, in the order of its table: read from the text when the tests are built.
struct DocumentedPreset {
    std::string name, codec;
};
const std::vector<DocumentedPreset>& documented_presets();

// From a preset's name or a canonical string; throws std::runtime_error for what it does not know.
CodecSpec parse_codec(const std::string& canonical);

struct CodedPage {
    std::vector<float> value;        // [64][dim], dequantized, in the stored basis
    std::vector<float> scale, zero;  // [64][dim]; empty for 16-bit parts
    std::vector<uint8_t> code;
    double last = 0;  // the largest code
};

// rows [64][dim]: what the 16-bit window holds, in the stored basis.
CodedPage encode(const PartCodec& codec, int64_t dim, const std::vector<const float*>& rows);

// The rotation in single precision, in the order of operations that docs/FORMATS.md fixes.
void rotate_single(std::vector<float>& x);

}  // namespace kvc_reference
