// The shapes of a cache's layers, which say how the arrays of a step have to be.
#pragma once

#include <memory>
#include <vector>

#include "failure.h"

namespace kvc_python {

// With all defaults in place, as kvc.h resolves them.
struct Shape {
    int64_t kv_heads, q_heads, k_dim, v_dim;
};

using Shapes = std::vector<Shape>;  // one for each layer
Shapes shapes_of(const kvc_options& options, const std::vector<kvc_layer>& layers);

// By the cache's handle, which is never another's; as all of Python's, under the GIL.
void remember_shapes(uint64_t cache, Shapes shapes);
void forget_shapes(uint64_t cache);
// Empty if there is no such cache: the library refuses it.
std::shared_ptr<const Shapes> shapes_of_cache(uint64_t cache);

}  // namespace kvc_python
