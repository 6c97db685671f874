// Text that goes to a caller's buffer.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>

namespace kvc {

// Copies text with its NUL if there is room for all of it; the bytes needed.
inline int64_t copy_text(const std::string& text, char* out, int64_t out_bytes) {
    const int64_t needed = int64_t(text.size()) + 1;
    if (out && out_bytes > 0) {
        const size_t length = size_t(needed <= out_bytes ? needed - 1 : out_bytes - 1);
        std::memcpy(out, text.data(), length);
        out[length] = 0;
    }
    return needed;
}

}  // namespace kvc
