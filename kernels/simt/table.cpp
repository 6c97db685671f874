// Compiled twice: as C++ over the emulator, and by nvcc for tests on a GPU, where a table_stream.h is met by a CUDA stream.
#include "kernels/simt/table.h"

#include <climits>
#include <memory>

#include "core/base/half.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/supported.h"
#include "kernels/simt/table_stream.h"

namespace kvc::simt {
namespace {

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
    require_readable({params.k, params.v, params.record});
    const auto first_bad = std::make_unique<unsigned long long>(ULLONG_MAX);
    cuda::launch_store(params, first_bad.get(), table_stream());
    finish_launches();
    return *first_bad == ULLONG_MAX ? -1 : int64_t(*first_bad);
}

void quantize(const QuantizeParams& params) {
    require(*params.format);
    require_readable({params.window, params.codes});
    const auto job = std::make_unique<cuda::QuantizeJob>(params.window, params.codes);
    cuda::launch_quantize(*params.format, job.get(), 1, table_stream());
    finish_launches();
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
    if (params.rope) {
        throw Fault("cuda: keys stored before RoPE");
    }
    require_readable({params.arena.slabs, item.q, item.coded, item.window, item.state});
    const auto job = std::make_unique<AttendItem>(item);
    const int64_t rows = item.tokens * params.group;
    if (item.prompt_class) {
        cuda::launch_prompt(params, job.get(), 1, rows, table_stream());
    } else {
        cuda::launch_attend(params, job.get(), 1, rows, table_stream());
    }
    finish_launches();
}

void mass(const AttendParams& params, const MassItem& mass, std::byte*) {
    require(*params.format);
    if (params.rope) {
        throw Fault("cuda: keys stored before RoPE");
    }
    require_readable({params.arena.slabs, mass.item.q, mass.item.coded, mass.item.window, mass.lse, mass.sinks, mass.coded, mass.window});
    const auto job = std::make_unique<MassItem>(mass);
    cuda::launch_mass(params, job.get(), 1, mass.item.tokens * params.group, mass.item.prompt_class, table_stream());
    finish_launches();
}

void finish(const FinishParams& params) {
    require(*params.format);
    require_readable({params.states, params.sink_logit, params.out, params.out_lse, params.out_full_lse});
    const auto row = std::make_unique<FinishParams>(params);
    cuda::launch_finish(*params.format, row.get(), 1, table_stream());
    finish_launches();
}

}  // namespace

const KernelTable* cuda_table() {
    static const KernelTable table = {
        .name = table_name,
        .scratch_bytes = scratch_bytes,
        .store = store,
        .quantize = quantize,
        .read = read,
        .unpack = unpack,
        .pack = pack,
        .attend = attend,
        .mass = mass,
        .finish = finish,
        .unsupported = unsupported,
    };
    return &table;
}

}  // namespace kvc::simt
