// The record formats of one layer: where a page's codes and metadata lie, and how large each record is.
#pragma once
#include "core/base/size.h"
#include "core/codec/codec.h"

namespace kvc {

// One part (keys or values) of a code record; offsets from the record's start, bytes.
struct PartLayout {
    int64_t codes = 0;        // the 16-, 8-, 4- or 2-bit plane
    int64_t high_plane = 0;   // the plane of the high bits of a width that has two (code_types.def), otherwise unused
    int64_t codes_bytes = 0;  // both planes
    int64_t meta = 0;         // scales and zero points
    int64_t meta_bytes = 0;
    int64_t super = 0;  // fp16 pairs of m8
    int64_t super_bytes = 0;
};

struct LayerFormat {
    CodecPair codec;
    int k_dim = 0, v_dim = 0;
    bool bf16_window = false;  // 16-bit records hold bf16 (the bf16 preset), otherwise fp16
    bool lossless = false;     // code records are the 16-bit records themselves: a page changes its name, not its bytes

    PartLayout k, v;           // of code records
    int64_t code_bytes = 0;    // record of 64 coded tokens, a multiple of 128
    int64_t window_bytes = 0;  // record of 64 tokens in 16 bits: 64 * (k_dim + v_dim) * 2
    int64_t sink_bytes = 0;    // record of codec.sinks tokens in 16 bits, rounded up to 128; 0 without sinks
};

// Checks that the codec suits the head dims (groups divide them, no unknown combination) and lays the records out.
Result<LayerFormat> make_format(const CodecPair& codec, int64_t k_dim, int64_t v_dim);

// A page of the format's window as a coded page of 16-bit rows: the same bytes, the same basis.
LayerFormat window_as_codes(const LayerFormat& format);

// Bits per element of a code record, padding included.
double codec_bits(const LayerFormat& format);

}  // namespace kvc
