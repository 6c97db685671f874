// Text that goes to a caller's buffer.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace kvc {

// Bytes of the character of UTF-8 that the text begins with; 0: it begins with none.
inline size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : 0u; };
    const unsigned first = byte(0);
    if (first < 0x80) return text.empty() ? 0 : 1;
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    // Longer than need be, a surrogate, or beyond U+10FFFF.
    const unsigned second = byte(1);
    const bool wrong = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
                       (first == 0xf4 && second > 0x8f);
    return wrong ? 0 : length;
}

// As much of the text as there is room for, with a NUL and no half of a character; bytes that are no UTF-8 become '?'.
inline void put_utf8(std::string_view text, char* out, size_t out_bytes) {
    size_t used = 0;
    while (!text.empty()) {
        const size_t length = utf8_length(text), taken = length == 0 ? 1 : length;
        if (used + taken >= out_bytes) break;
        if (length == 0) {
            out[used] = '?';
        } else {
            std::memcpy(out + used, text.data(), length);
        }
        used += taken;
        text.remove_prefix(taken);
    }
    out[used] = 0;
}

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
