// For each of some keys the most similar one of others, by cosine. A block holds eight keys and passes by the others, eight at a time; two
// threads share a pair, each with two of its four chains of sums. For translation units without contraction of multiply and add
// (-fmad=false).
// Reads the others once for every eight keys; bound by decoding them to doubles.
#pragma once
#include "kernels/cuda/measure.cuh"
#include "kernels/cuda/merge_launch.h"

namespace kvc::cuda {

struct MatchResult {
    double cosine;
    int64_t other;
};

constexpr int match_keys_of_block = 8, match_others = 8;
static_assert(match_keys_of_block * match_others * 2 == threads);

struct MatchShared {
    double key[match_keys_of_block][dim_limit + 1], other[match_others][dim_limit + 1];
    SharedRow row[warps];
    MatchResult best[match_keys_of_block][match_others];
};

// Unit keys of the list from `first` on; by all threads of the block.
KVC_DEVICE void load_units(const KeyList& list, int dim, bool rotated, int64_t first, double (&out)[match_others][dim_limit + 1],
                           MatchShared* s) {
    const RowReader reader{list.pages, list.places, true, dim, rotated};
    SharedRow* const row = &s->row[simt::warp()];
    for (int t = simt::warp(); t < match_others && first + t < list.n; t += warps) {
        reader.read(first + t, row);
        const double length = list.lengths[first + t];
        for (int i = simt::lane(); i < dim; i += 32) {
            out[t][i] = double(row->x[i]) / length;
        }
        simt::sync_warp();
    }
}

// All lanes of a warp; both threads of a pair get the sum.
KVC_DEVICE double cosine_of_pair(const double* a, const double* b, int dim, int half) {
    double even = 0, odd = 0;
    for (int d = 2 * half; d < dim; d += 4) {
        even += a[d] * b[d];
        odd += a[d + 1] * b[d + 1];
    }
    const double own = even + odd;
    return own + simt::shuffle_xor(own, 1);
}

// Of equal cosines the later one counts; only those of at least `least` do. With reach, key i of the list itself meets others
// i + 1 .. i + reach alone. The block's keys begin at first_key; thread t < 8 gets the result of key t.
KVC_DEVICE MatchResult match_block(const KeyList& keys, const KeyList& others, int dim, bool rotated, double least, int64_t reach,
                                   int64_t first_key, MatchShared* s) {
    const int pair = simt::thread() / 2, half = simt::thread() % 2, a = pair / match_others, b = pair % match_others;
    const int64_t key = first_key + a;
    MatchResult best{least, -1};
    load_units(keys, dim, rotated, first_key, s->key, s);
    const int64_t begin = reach ? first_key + 1 : 0, last = first_key + match_keys_of_block + reach;
    const int64_t end = reach && last < others.n ? last : others.n;
    for (int64_t first = begin; first < end; first += match_others) {
        load_units(others, dim, rotated, first, s->other, s);
        simt::sync_block();
        const int64_t other = first + b;
        const bool meets = key < keys.n && other < others.n && (!reach || (other > key && other <= key + reach));
        const double cosine = cosine_of_pair(s->key[a], s->other[b], meets ? dim : 0, half);
        if (meets && cosine >= best.cosine) {
            best = {cosine, other};
        }
        simt::sync_block();
    }
    if (half == 0) {
        s->best[a][b] = best;
    }
    simt::sync_block();
    if (simt::thread() < match_keys_of_block) {
        best = s->best[simt::thread()][0];
        for (int i = 1; i < match_others; i++) {
            const MatchResult& more = s->best[simt::thread()][i];
            if (more.cosine > best.cosine || (more.cosine == best.cosine && more.other > best.other)) {
                best = more;
            }
        }
    }
    return best;
}

// KeyStatistic::similarity, of keys whose lengths measure_keys has left.
KVC_KERNEL(threads, 2) match_followers(MeasureArgs args) {
    KVC_SHARED(MatchShared, s);
    const MeasureJob job = args.jobs[simt::block_y()];
    const int64_t first = int64_t{simt::block_x()} * match_keys_of_block;
    if (first >= job.tokens) {
        return;
    }
    const KeyList keys{job.pages, job.places, job.lengths, job.tokens};
    const MatchResult best = match_block(keys, keys, args.dim, args.rotated, -1.0, similarity_reach, first, &s);
    if (simt::thread() < match_keys_of_block && first + simt::thread() < job.tokens) {
        job.out[first + simt::thread()] = best.cosine;
    }
}

struct MatchArgs {
    const MatchJob* jobs;
    int dim;
    bool rotated;
};

// Of each key that leaves the most similar kept one.
KVC_KERNEL(threads, 2) match_kept(MatchArgs args) {
    KVC_SHARED(MatchShared, s);
    const MatchJob job = args.jobs[simt::block_y()];
    const int64_t first = int64_t{simt::block_x()} * match_keys_of_block;
    if (first >= job.leaving.n) {
        return;
    }
    const MatchResult best = match_block(job.leaving, job.kept, args.dim, args.rotated, job.least, 0, first, &s);
    if (simt::thread() < match_keys_of_block && first + simt::thread() < job.leaving.n) {
        job.out[first + simt::thread()] = best.other;
    }
}

}  // namespace kvc::cuda
