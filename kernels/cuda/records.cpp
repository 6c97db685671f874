#include "kernels/cuda/records.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "core/base/half.h"
#include "core/codec/canonical.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/supported.h"

namespace kvc::cuda {
namespace {

float number_of(const void* p, Dtype dtype, int64_t i) {
    if (dtype == Dtype::f32) {
        return static_cast<const float*>(p)[i];
    }
    const uint16_t bits = static_cast<const uint16_t*>(p)[i];
    return dtype == Dtype::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
}

// NaN if one is.
float largest_of(const float* x, int dim) {
    float largest = 0.0f;
    for (int i = 0; i < dim; i++) {
        const float size = std::fabs(x[i]);
        if (size != size) {
            return size;
        }
        largest = size > largest ? size : largest;
    }
    return largest;
}

// Rounds a row to its 16 bits; false if it holds a number that they cannot. The range is checked after rotation.
bool store_row(const StoreParams& p, const void* numbers, int64_t start, int dim, bool rotated, uint16_t* out) {
    const bool bf16 = p.format->bf16_window;
    const float limit = bf16 ? bf16_max : f16_max, rounds_to_infinity = bf16 ? 0x1.ffp127f : 65520.0f;
    float x[dim_limit];
    for (int i = 0; i < dim; i++) {
        x[i] = number_of(numbers, p.dtype, start + i);
    }
    if (!(largest_of(x, dim) <= std::numeric_limits<float>::max())) {
        return false;
    }
    if (rotated) {
        rotate(x, dim);
    }
    const float largest = largest_of(x, dim);
    const bool clamp = p.saturate && largest > limit;
    if (!clamp && !(largest < rounds_to_infinity)) {
        return false;
    }
    for (int i = 0; i < dim; i++) {
        const float stored = !clamp ? x[i] : x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
        out[i] = bf16 ? bf16_from_f32(stored) : f16_from_f32(stored);
    }
    return true;
}

int64_t scratch_bytes(const LayerFormat&, int64_t, int64_t) { return 0; }

int64_t store(const StoreParams& p) {
    const LayerFormat& f = *p.format;
    const int64_t capacity = p.sinks ? f.codec.sinks : page_tokens;
    auto* const keys = reinterpret_cast<uint16_t*>(p.record);
    uint16_t* const values = keys + capacity * f.k_dim;
    for (int64_t t = 0; t < p.tokens; t++) {
        const int64_t slot = p.first_slot + t;
        if (!store_row(p, p.k, t * p.k_stride, f.k_dim, f.codec.k.rotate, keys + slot * f.k_dim) ||
            !store_row(p, p.v, t * p.v_stride, f.v_dim, f.codec.v.rotate, values + slot * f.v_dim)) {
            return t;
        }
    }
    return -1;
}

void read_rows(const LayerFormat& f, const std::byte* rows, int64_t n, float* out) {
    for (int64_t i = 0; out && i < n; i++) {
        out[i] = number_of(rows, f.bf16_window ? Dtype::bf16 : Dtype::f16, i);
    }
}

void quantize(const QuantizeParams& p) {
    const LayerFormat& f = *p.format;
    const std::unique_ptr<float[]> x(new float[page_tokens * dim_limit]);
    const std::unique_ptr<CanonicalPart[]> parts(new CanonicalPart[2]);
    if (!is_16_bit(f.codec.k.type)) {
        read_rows(f, p.window, page_tokens * f.k_dim, x.get());
        encode_part(f.codec.k, f.k_dim, x.get(), &parts[0]);
    }
    if (!is_16_bit(f.codec.v.type)) {
        read_rows(f, p.window + page_tokens * f.k_dim * 2, page_tokens * f.v_dim, x.get());
        encode_part(f.codec.v, f.v_dim, x.get(), &parts[1]);
    }
    pack_record(f, parts[0], parts[1], p.codes);
}

void read(const LayerFormat& f, KernelTable::Form form, const std::byte* record, float* k, float* v) {
    if (form == KernelTable::Form::codes && !f.lossless) {
        const std::unique_ptr<CanonicalPart[]> parts(new CanonicalPart[2]);
        unpack_record(f, record, &parts[0], &parts[1]);
        if (k) {
            decode_part(f.codec.k, f.k_dim, parts[0], k);
        }
        if (v) {
            decode_part(f.codec.v, f.v_dim, parts[1], v);
        }
        return;
    }
    const int64_t tokens = form == KernelTable::Form::sinks ? f.codec.sinks : page_tokens;
    read_rows(f, record, tokens * f.k_dim, k);
    read_rows(f, record + tokens * f.k_dim * 2, tokens * f.v_dim, v);
}

void unpack(const LayerFormat& f, const std::byte* record, CanonicalPart* k, CanonicalPart* v) {
    if (!f.lossless) {
        unpack_record(f, record, k, v);
    }
}

void pack(const LayerFormat& f, const CanonicalPart& k, const CanonicalPart& v, std::byte* record) {
    if (!f.lossless) {
        pack_record(f, k, v, record);
    }
}

}  // namespace

const KernelTable& record_table() {
    static constexpr KernelTable table = {
        .name = "cuda",
        .scratch_bytes = scratch_bytes,
        .store = store,
        .quantize = quantize,
        .read = read,
        .unpack = unpack,
        .pack = pack,
        .attend = nullptr,
        .mass = nullptr,
        .page_mass = nullptr,
        .finish = nullptr,
        .rotates_keys = true,
        .weighs_counts = true,
        .unsupported = unsupported,
    };
    return table;
}

}  // namespace kvc::cuda
