#include "tests/reference/plain_recode.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

namespace kvc_plain {
namespace {

using namespace kvc;

constexpr auto page = static_cast<size_t>(page_tokens);

// A source, read.
struct ReadPage {
    std::vector<float> k, v;
    CanonicalPart k_codes, v_codes;
};

std::unique_ptr<ReadPage> read_source(const KernelTable& kernels, const RecodeSource& source) {
    const LayerFormat& f = *source.format;
    auto read = std::make_unique<ReadPage>();
    read->k.resize(page * static_cast<size_t>(f.k_dim));
    read->v.resize(page * static_cast<size_t>(f.v_dim));
    kernels.read(f, KernelTable::Form::codes, source.record, read->k.data(), read->v.data());
    if (!f.lossless) kernels.unpack(f, source.record, &read->k_codes, &read->v_codes);
    return read;
}

const FoldedRow* fold_of(const RecodeParams& job, size_t t) {
    if (!(job.folded >> t & 1)) return nullptr;
    return &job.folds[std::popcount(job.folded & ((uint64_t{1} << t) - 1))];
}

// Over the row that it had; from the basis of append to the stored one.
void put_row(const float* numbers, size_t dim, bool rotated, bool there_and_back, size_t t, std::vector<float>* to) {
    float* const row = &(*to)[t * dim];
    std::copy_n(numbers, dim, row);
    for (int turns = rotated ? (there_and_back ? 3 : 1) : 0; turns > 0; turns--)
        rotate(row, static_cast<int>(dim));
}

void take_row(const std::vector<float>& from, size_t slot, size_t dim, bool there_and_back, size_t t, std::vector<float>* to) {
    float* const row = &(*to)[t * dim];
    std::copy_n(&from[slot * dim], dim, row);
    if (!there_and_back) return;
    rotate(row, static_cast<int>(dim));
    rotate(row, static_cast<int>(dim));
}

void move_token(const Codec& codec, size_t dim, const CanonicalPart& from, size_t slot, size_t t, CanonicalPart* to) {
    std::copy_n(from.codes + slot * dim, dim, to->codes + t * dim);
    for (size_t g = 0; g < (codec.group ? dim / static_cast<size_t>(codec.group) : 1); g++) {
        to->scales[g * page + t] = from.scales[g * page + slot];
        to->zeros[g * page + t] = from.zeros[g * page + slot];
    }
}

PageSide positions_of(const RecodeParams& job) {
    PageSide side;
    for (size_t t = 0; t < page; t++) {
        const RecodeSource& source = job.sources[job.page[t]];
        side.positions[t] = source.first_position + job.slots[t];
        if (source.side) std::memcpy(&side.positions[t], source.side + 8 * job.slots[t], 8);
    }
    return side;
}

}  // namespace

void recode(const KernelTable& kernels, const RecodeParams& job) {
    const LayerFormat& f = *job.format;
    const auto k_dim = static_cast<size_t>(f.k_dim), v_dim = static_cast<size_t>(f.v_dim);
    std::vector<std::unique_ptr<ReadPage>> sources;
    for (int64_t i = 0; i < job.n_sources; i++)
        sources.push_back(read_source(kernels, job.sources[i]));
    std::vector<float> k(page * k_dim), v(page * v_dim);
    for (size_t t = 0; t < page; t++) {
        take_row(sources[job.page[t]]->k, job.slots[t], k_dim, job.through_append && f.codec.k.rotate, t, &k);
        take_row(sources[job.page[t]]->v, job.slots[t], v_dim, job.through_append && f.codec.v.rotate, t, &v);
    }
    for (size_t t = 0; t < page; t++) {
        const FoldedRow* const fold = fold_of(job, t);
        if (fold && fold->k) put_row(fold->k, k_dim, f.codec.k.rotate, job.through_append, t, &k);
        if (fold) put_row(fold->v, v_dim, f.codec.v.rotate, job.through_append, t, &v);
    }
    LayerFormat stored = f;  // the rows are in the stored basis
    stored.codec.k.rotate = stored.codec.v.rotate = false;
    std::vector<std::byte> rows(static_cast<size_t>(f.window_bytes)), codes(static_cast<size_t>(f.code_bytes));
    kernels.store({&stored, k.data(), v.data(), Dtype::f32, f.k_dim, f.v_dim, page_tokens, rows.data(), false, 0, true});
    if (job.side) {
        const PageSide side = positions_of(job);
        std::memcpy(job.side, &side, sizeof side);
    }
    if (f.lossless) {
        std::copy(rows.begin(), rows.end(), job.record);
        return;
    }
    kernels.quantize({&f, rows.data(), codes.data()});
    const auto k_new = std::make_unique<CanonicalPart>(), v_new = std::make_unique<CanonicalPart>();
    kernels.unpack(f, codes.data(), k_new.get(), v_new.get());
    for (size_t t = 0; t < page; t++) {
        const RecodeSource& source = job.sources[job.page[t]];
        const ReadPage& read = *sources[job.page[t]];
        const FoldedRow* const fold = fold_of(job, t);
        if (moves_coded(*source.format, f, f.codec.k) && !(fold && fold->k))
            move_token(f.codec.k, k_dim, read.k_codes, job.slots[t], t, k_new.get());
        if (moves_coded(*source.format, f, f.codec.v) && !fold)
            move_token(f.codec.v, v_dim, read.v_codes, job.slots[t], t, v_new.get());
    }
    if (job.keeps_keys) *k_new = sources[0]->k_codes;
    kernels.pack(f, *k_new, *v_new, codes.data());
    std::copy(codes.begin(), codes.end(), job.record);
}

}  // namespace kvc_plain
