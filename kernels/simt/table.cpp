#include "kernels/simt/table.h"

#include <climits>
#include <memory>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/supported.h"

namespace kvc::simt {
namespace {

thread_local std::unique_ptr<Machine> stream = std::make_unique<Machine>();

const char* unsupported(const LayerFormat& format) { return cuda::unsupported(format); }

// Whoever uses a table asks it first; one who did not must not get wrong bytes.
void require(const LayerFormat& format) {
    if (const char* reason = unsupported(format)) {
        throw Fault(reason);
    }
}

int64_t scratch_bytes(const LayerFormat&, int64_t, int64_t) { return 0; }

int64_t store(const StoreParams& params) {
    require(*params.format);
    unsigned long long first_bad = ULLONG_MAX;
    cuda::launch_store(params, &first_bad, stream.get());
    return first_bad == ULLONG_MAX ? -1 : int64_t(first_bad);
}

void quantize(const QuantizeParams& params) {
    require(*params.format);
    const cuda::QuantizeJob job{params.window, params.codes};
    cuda::launch_quantize(*params.format, &job, 1, stream.get());
}

void read_rows(bool bf16, const std::byte* rows, int64_t n, float* out) {
    const auto* const numbers = reinterpret_cast<const uint16_t*>(rows);
    for (int64_t i = 0; out && i < n; i++) {
        out[i] = bf16 ? f32_from_bf16(numbers[i]) : f32_from_f16(numbers[i]);
    }
}

void read(const LayerFormat& f, KernelTable::Form form, const std::byte* record, float* k, float* v) {
    require(f);
    if (form == KernelTable::Form::codes && !f.lossless) {
        const auto parts = std::make_unique<CanonicalPart[]>(2);
        cuda::unpack_record(f, record, &parts[0], &parts[1]);
        if (k) {
            decode_part(f.codec.k, f.k_dim, parts[0], k);
        }
        if (v) {
            decode_part(f.codec.v, f.v_dim, parts[1], v);
        }
        return;
    }
    const int64_t tokens = form == KernelTable::Form::sinks ? f.codec.sinks : page_tokens;
    read_rows(f.bf16_window, record, tokens * f.k_dim, k);
    read_rows(f.bf16_window, record + tokens * f.k_dim * 2, tokens * f.v_dim, v);
}

void unpack(const LayerFormat& f, const std::byte* record, CanonicalPart* k, CanonicalPart* v) {
    require(f);
    if (!f.lossless) {
        cuda::unpack_record(f, record, k, v);
    }
}

void pack(const LayerFormat& f, const CanonicalPart& k, const CanonicalPart& v, std::byte* record) {
    require(f);
    if (!f.lossless) {
        cuda::pack_record(f, k, v, record);
    }
}

void attend(const AttendParams& params, const AttendItem& item, std::byte*) {
    require(*params.format);
    const int64_t rows = item.tokens * params.group;
    if (params.rope) {
        cuda::launch_general(params, &item, 1, rows, stream.get());
    } else if (item.prompt_class) {
        cuda::launch_prompt(params, &item, 1, rows, stream.get());
    } else {
        cuda::launch_attend(params, &item, 1, rows, stream.get());
    }
}

void mass(const AttendParams& params, const MassItem& mass, std::byte*) {
    require(*params.format);
    cuda::launch_mass(params, &mass, 1, mass.item.tokens * params.group, mass.item.prompt_class, stream.get());
}

void finish(const FinishParams& params) {
    require(*params.format);
    cuda::launch_finish(*params.format, &params, 1, stream.get());
}

}  // namespace

void set_lane_order(LaneOrder order, uint64_t seed) { stream = std::make_unique<Machine>(order, seed); }

void set_bulk_copies(bool there) { stream->set_bulk_copies(there); }

const KernelTable* cuda_table() {
    static constexpr KernelTable table = {
        .name = "cuda-simt",
        .scratch_bytes = scratch_bytes,
        .store = store,
        .quantize = quantize,
        .read = read,
        .unpack = unpack,
        .pack = pack,
        .attend = attend,
        .mass = mass,
        .finish = finish,
        .rotates_keys = true,
        .weighs_counts = true,
        .unsupported = unsupported,
    };
    return &table;
}

}  // namespace kvc::simt
