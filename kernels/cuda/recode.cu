// Pages out of tokens of others: bits are those of every other backend, so it is compiled with -fmad=false.
#include <algorithm>

#include "kernels/cuda/recode.cuh"

namespace kvc::cuda {
namespace {

PartForm part_form(const Codec& codec, int dim, const PartLayout& layout) {
    const PartGrid grid = grid_of(codec, dim);
    return {grid.bits, dim, grid.middle, grid.groups, int(layout.codes), int(layout.meta), int(layout.super)};
}

int64_t end_of(const PartLayout& part) { return std::max(part.meta + part.meta_bytes, part.super + part.super_bytes); }

}  // namespace

SourcePage source_page(const RecodeSource& source) {
    const LayerFormat& f = *source.format;
    return {source.record,
            source.side,
            source.first_position,
            f.lossless,
            f.bf16_window,
            metadata_of(f),
            part_form(f.codec.k, f.k_dim, f.k),
            part_form(f.codec.v, f.v_dim, f.v)};
}

SourcePage source_page(const TokenSource& source) {
    SourcePage page = source_page(RecodeSource{source.format, source.record, nullptr, 0});
    if (source.form != KernelTable::Form::codes) {
        const int64_t capacity = source.form == KernelTable::Form::sinks ? source.format->codec.sinks : page_tokens;
        page.rows = true;
        page.k.codes = 0;
        page.v.codes = int(capacity * source.format->k_dim * 2);
    }
    return page;
}

RecodeJob recode_job(const RecodeParams& p, const SourcePage* from, const FoldedRow* folds) {
    RecodeJob job = {p.record, p.side, from, 0, p.folded, folds, p.keeps_keys, {}, {}};
    for (int t = 0; t < page_tokens; t++) {
        job.page[t] = p.page[t];
        job.slots[t] = p.slots[t];
        if (moves_coded(*p.sources[p.page[t]].format, *p.format, p.format->codec.v)) {
            job.moved |= uint64_t{1} << t;
        }
    }
    job.moved &= ~p.folded;
    return job;
}

void launch_recode(const RecodeParams& p, const RecodeJob* jobs, int n_jobs, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const RecodeArgs args{jobs,
                          grid_of(f.codec.k, f.k_dim),
                          grid_of(f.codec.v, f.v_dim),
                          f.k,
                          f.v,
                          f.lossless,
                          f.bf16_window,
                          metadata_of(f),
                          p.through_append && f.codec.k.rotate,
                          p.through_append && f.codec.v.rotate,
                          f.codec.k.rotate,
                          f.codec.v.rotate,
                          int(std::max(end_of(f.k), end_of(f.v))),
                          int(f.code_bytes)};
    simt::launch(recode_pages, n_jobs, 1, threads, stream, args);
}

}  // namespace kvc::cuda
