#include "shape.h"

#include <map>

namespace kvc_python {
namespace {

std::map<uint64_t, std::shared_ptr<const Shapes>> known;

int64_t either(int64_t value, int64_t otherwise) { return value ? value : otherwise; }

Shape shape_of(const kvc_options& options, const kvc_layer& layer) {
    const int64_t kv_heads = either(layer.kv_heads, options.kv_heads), k_dim = either(layer.k_dim, options.k_dim);
    return {kv_heads, either(layer.q_heads, either(options.q_heads, kv_heads)), k_dim,
            either(layer.v_dim, either(options.v_dim, k_dim))};
}

}  // namespace

Shapes shapes_of(const kvc_options& options, const std::vector<kvc_layer>& layers) {
    if (layers.empty()) return Shapes(size_t(options.layers), shape_of(options, kvc_layer{}));
    Shapes shapes;
    for (const kvc_layer& layer : layers)
        shapes.push_back(shape_of(options, layer));
    return shapes;
}

void remember_shapes(uint64_t cache, Shapes shapes) { known[cache] = std::make_shared<const Shapes>(std::move(shapes)); }
void forget_shapes(uint64_t cache) { known.erase(cache); }

std::shared_ptr<const Shapes> shapes_of_cache(uint64_t cache) {
    const auto found = known.find(cache);
    return found == known.end() ? std::make_shared<const Shapes>() : found->second;
}

}  // namespace kvc_python
