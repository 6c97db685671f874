// A full window record into a code record. One block a page; for translation units without contraction (encode.cuh).
// Reads 128 * (KD + VD) bytes, writes about a quarter of that; bound by the divisions, one for every number.
#pragma once
#include "core/codec/format.h"
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {

struct QuantizeArgs {
    const QuantizeJob* jobs;
    PartGrid k, v;
    PartLayout k_layout, v_layout;
    Metadata meta;
};

KVC_KERNEL(threads, 2) quantize_page(QuantizeArgs args) {
    KVC_SHARED(PageShared, shared);
    const QuantizeJob job = args.jobs[simt::block_x()];
    if (!job.window) {
        return;  // of a graph, which has launches for the most that a step can bring
    }
    encode_keys(args.k, args.meta, job.window, &shared);
    simt::sync_block();
    write_codes_of<true>(args.k, shared, 4, job.codes + args.k_layout.codes);
    write_key_metadata(shared, args.k.dim, args.meta, job.codes + args.k_layout.meta, job.codes + args.k_layout.super);
    simt::sync_block();
    encode_values(args.v, job.window + page_tokens * args.k.dim * 2, 0, page_tokens, &shared);
    simt::sync_block();
    write_codes_of<false>(args.v, shared, widest_run(args.meta.v_groups), job.codes + args.v_layout.codes);
    write_value_metadata(shared, args.v.groups, args.meta.v_groups, job.codes + args.v_layout.meta);
}

}  // namespace kvc::cuda
