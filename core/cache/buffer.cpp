#include "core/cache/buffer.h"

#include "core/base/size.h"

namespace kvc {

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

BufferLayout dense(BufferLayout layout, int64_t heads, int64_t dim) {
    if (layout.head_stride == 0) layout.head_stride = dim;
    if (layout.token_stride == 0) layout.token_stride = heads * layout.head_stride;
    return layout;
}

Status check_buffer(const char* what, const void* data, int64_t bytes, int64_t tokens, int64_t heads, int64_t dim,
                    const BufferLayout& layout) {
    if (tokens == 0) return {};
    if (!data) return fail(Code::argument, what, " is NULL");
    const Size elements = Size(tokens - 1) * Size(layout.token_stride) + Size(heads - 1) * Size(layout.head_stride) + Size(dim);
    const Size needed = elements * Size(bytes_of(layout.dtype));
    if (!needed.valid()) return fail(Code::argument, what, ": negative strides, or strides beyond 2^63 bytes");
    if (bytes < needed.value()) {
        return fail(Code::argument, what, " has ", bytes, " bytes, ", tokens, " tokens of this layer need ", needed.value());
    }
    return {};
}

}  // namespace kvc
