// Callers' buffers: [tokens, heads, dim] with strides.
#pragma once
#include <cstdint>

#include "core/backend/kernel_table.h"
#include "core/base/size.h"
#include "core/base/status.h"

namespace kvc {

// Strides in elements; 0 = dense.
struct BufferLayout {
    Dtype dtype = Dtype::f32;
    int64_t token_stride = 0, head_stride = 0;
};

int64_t bytes_of(Dtype dtype);
// The layout with its strides filled in.
BufferLayout dense(BufferLayout layout, int64_t heads, int64_t dim);
// From the first to the last element that the (filled in) strides name; of 0 tokens none.
Size reach_of_buffer(int64_t tokens, int64_t heads, int64_t dim, const BufferLayout& layout);
bool is_dense(const BufferLayout& layout, int64_t heads, int64_t dim);
// Checks that the buffer is aligned to its elements and reaches the last one that the (filled in) strides name.
Status check_buffer(const char* what, const void* data, int64_t bytes, int64_t tokens, int64_t heads, int64_t dim,
                    const BufferLayout& layout);
// The largest magnitude in a row; infinity or NaN if it holds one.
double reach_of_row(const void* data, int64_t token, int64_t head, int64_t dim, const BufferLayout& layout);
// Checks that no two rows of a buffer that is written share an element; the layout's strides are filled in.
Status check_rows_apart(const char* what, int64_t tokens, int64_t heads, int64_t dim, const BufferLayout& layout);

}  // namespace kvc
