// A calibration file names the codec of every layer (docs/FORMATS.md section 6): kvc-eval --calibrate writes one, and
// kvc_options.codec = "@FILE" reads it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/codec/codec.h"

namespace kvc {

struct CalibratedLayer {
    std::string codec;
    std::string origin;  // "FILE:5", for the message if the codec does not suit the layer's shape
};

constexpr char calibration_mark = '@';
constexpr int64_t calibration_bytes_limit = int64_t{1} << 20;  // 4096 layers take at most 600 KB

// The layers of a calibration in `text`, of which there must be exactly `layers`; messages name `file` and the line.
Result<std::vector<CalibratedLayer>> parse_calibration(std::string_view text, const std::string& file, int64_t layers);
// The same of a file on disk.
Result<std::vector<CalibratedLayer>> read_calibration(const std::string& path, int64_t layers);

}  // namespace kvc
