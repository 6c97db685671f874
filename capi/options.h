// From the public option structs to what core takes.
#pragma once
#include "kvc.h"

#include "core/base/status.h"
#include "core/cache/config.h"

namespace kvc {

Result<CacheConfig> read_options(const kvc_options* options, const kvc_layer* layers, int64_t n_layers);
// KVC_DTYPE_DEFAULT is f32.
Result<Dtype> read_dtype(const char* what, int32_t value);

}  // namespace kvc
