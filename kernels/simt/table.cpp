// Compiled twice: as C++ over the emulator, and by nvcc for tests on a GPU, where a table_stream.h is met by a CUDA stream.
#include "kernels/simt/table.h"

#include <climits>
#include <memory>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/records.h"
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
    const auto job = std::make_unique<cuda::StoreJob>(cuda::store_job(params, first_bad.get()));
    cuda::launch_store(params, job.get(), 1, params.tokens, table_stream());
    finish_launches();
    return *first_bad == ULLONG_MAX ? -1 : int64_t(*first_bad) - params.first_token;
}

void quantize(const QuantizeParams& params) {
    require(*params.format);
    require_readable({params.window, params.codes});
    const auto job = std::make_unique<cuda::QuantizeJob>(params.window, params.codes);
    cuda::launch_quantize(*params.format, job.get(), 1, table_stream());
    finish_launches();
}

void attend(const AttendParams& params, const AttendItem& item, std::byte*) {
    require(*params.format);
    require_readable({params.arena.slabs, item.q, item.coded, item.window, item.state, item.counts, item.page_sums});
    const auto job = std::make_unique<AttendItem>(item);
    const int64_t rows = item.tokens * params.group;
    if (params.rope) {
        cuda::launch_general(params, job.get(), 1, rows, table_stream());
    } else if (item.prompt_class) {
        cuda::launch_prompt(params, job.get(), 1, rows, table_stream());
    } else {
        cuda::launch_attend(params, job.get(), 1, rows, table_stream());
    }
    finish_launches();
}

void mass(const AttendParams& params, const MassItem& mass, std::byte*) {
    require(*params.format);
    require_readable(
        {params.arena.slabs, mass.item.q, mass.item.coded, mass.item.window, mass.lse, mass.sinks, mass.coded, mass.window});
    const auto job = std::make_unique<MassItem>(mass);
    cuda::launch_mass(params, job.get(), 1, mass.item.tokens * params.group, mass.item.prompt_class, table_stream());
    finish_launches();
}

void page_mass(int64_t group, const MassItem& mass) {
    require_readable({mass.item.page_sums, mass.lse, mass.sinks, mass.coded, mass.window});
    const int64_t runs = mass.item.runs();
    const auto counters = std::make_unique<int64_t[]>(size_t(runs));
    const auto job = std::make_unique<cuda::PageMassJob>(
        cuda::PageMassJob{mass.item.page_sums, mass.lse, mass.lse_token_stride, mass.item.tokens, runs, counters.get()});
    cuda::launch_page_mass(group, job.get(), 1, runs, table_stream());
    finish_launches();
    *mass.sinks += counters[0];
    for (int64_t e = 0; e < mass.item.n_coded; e++) {
        mass.coded[e] += counters[size_t(1 + e)];
    }
    for (int64_t e = 0; e < mass.item.n_window; e++) {
        mass.window[e] += counters[size_t(1 + mass.item.n_coded + e)];
    }
}

void finish(const FinishParams& params) {
    require(*params.format);
    require_readable({params.states, params.sink_logit, params.out, params.out_lse, params.out_full_lse});
    const auto row = std::make_unique<FinishTile>(FinishTile{params.states, 1, params.splits, params.split_stride, 0});
    const FinishCall call = {params.format,      1, params.sink_logit, params.out_dtype, params.out, 0, 0, params.out_lse,
                             params.out_full_lse};
    cuda::launch_finish(call, row.get(), 1, 1, table_stream());
    finish_launches();
}

}  // namespace

const KernelTable* cuda_table() {
    static const KernelTable table = {
        .name = table_name,
        .scratch_bytes = scratch_bytes,
        .store = store,
        .quantize = quantize,
        .read = cuda::record_table().read,
        .unpack = cuda::record_table().unpack,
        .pack = cuda::record_table().pack,
        .attend = attend,
        .mass = mass,
        .page_mass = page_mass,
        .finish = finish,
        .rotates_keys = true,
        .weighs_counts = true,
        .unsupported = unsupported,
    };
    return &table;
}

}  // namespace kvc::simt
