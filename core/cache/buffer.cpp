#include "core/cache/buffer.h"

#include <cmath>
#include <utility>

#include "core/base/half.h"

namespace kvc {

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

BufferLayout dense(BufferLayout layout, int64_t heads, int64_t dim) {
    if (layout.head_stride == 0) layout.head_stride = dim;
    if (layout.token_stride == 0) layout.token_stride = heads * layout.head_stride;
    return layout;
}

Size reach_of_buffer(int64_t tokens, int64_t heads, int64_t dim, const BufferLayout& layout) {
    if (tokens == 0) return 0;
    const Size elements = Size(tokens - 1) * Size(layout.token_stride) + Size(heads - 1) * Size(layout.head_stride) + Size(dim);
    return elements * Size(bytes_of(layout.dtype));
}

bool is_dense(const BufferLayout& layout, int64_t heads, int64_t dim) {
    return layout.head_stride == dim && layout.token_stride == heads * dim;
}

Status check_buffer(const char* what, const void* data, int64_t bytes, int64_t tokens, int64_t heads, int64_t dim,
                    const BufferLayout& layout) {
    if (tokens == 0) return {};
    if (!data) return fail(Code::argument, what, " is NULL");
    // A device faults on such an address, which costs the process its context; C forbids it anyway.
    const int64_t unit = bytes_of(layout.dtype), over = int64_t(reinterpret_cast<uintptr_t>(data) % uintptr_t(unit));
    if (over != 0) return fail(Code::argument, what, " is ", over, " bytes behind a multiple of its numbers' ", unit);
    const Size needed = reach_of_buffer(tokens, heads, dim, layout);
    if (!needed.valid()) return fail(Code::argument, what, ": negative strides, or strides beyond 2^63 bytes");
    if (bytes < needed.value()) {
        return fail(Code::argument, what, " has ", bytes, " bytes, ", tokens, " tokens of this layer need ", needed.value());
    }
    return {};
}

double reach_of_row(const void* data, int64_t token, int64_t head, int64_t dim, const BufferLayout& layout) {
    double reach = 0;
    for (int64_t i = 0; i < dim; i++) {
        const int64_t at = token * layout.token_stride + head * layout.head_stride + i;
        const uint16_t* const halves = static_cast<const uint16_t*>(data);
        const float x = layout.dtype == Dtype::f32   ? static_cast<const float*>(data)[at]
                        : layout.dtype == Dtype::f16 ? f32_from_f16(halves[at])
                                                     : f32_from_bf16(halves[at]);
        if (std::isnan(x)) return x;
        reach = std::fmax(reach, std::abs(x));
    }
    return reach;
}

Status check_rows_apart(const char* what, int64_t tokens, int64_t heads, int64_t dim, const BufferLayout& layout) {
    std::pair<int64_t, int64_t> inner = {layout.head_stride, heads}, outer = {layout.token_stride, tokens};
    if (outer.first < inner.first) std::swap(inner, outer);
    const int64_t inner_reach = inner.second > 1 ? dim : 0;
    const int64_t outer_reach = outer.second > 1 ? (inner.second - 1) * inner.first + dim : 0;
    if (inner.first >= inner_reach && outer.first >= outer_reach) return {};
    return fail(Code::argument, what, ": rows overlap (token stride ", layout.token_stride, ", head stride ", layout.head_stride,
                ", head dim ", dim, ")");
}

}  // namespace kvc
