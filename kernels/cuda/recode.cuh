// One new page out of tokens of others: read as the canonical form says, rounded to 16 bits, coded by the functions of quantize_page.
// One block a page; for translation units without contraction of multiply and add (-fmad=false).
// Reads its tokens once, most of it in words that other tokens share, writes the page; bound by the latency of the reads, and where
// values do not move as they are by the divisions of their codes.
#pragma once
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/recode_launch.h"
#include "kernels/cuda/rotation.cuh"
#include "kernels/cuda/source_page.cuh"

namespace kvc::cuda {

struct RecodeArgs {
    const RecodeJob* jobs;
    PartGrid k, v;
    PartLayout k_layout, v_layout;
    bool rows, bf16;            // of the new pages
    Metadata meta;              // of theirs
    bool rotate_k, rotate_v;    // out of the stored basis and back
    bool rotated_k, rotated_v;  // that basis is another one than that of append
    int end, bytes;             // of what is coded; of the record
};

constexpr int gathered = 32;  // tokens that a block has the numbers of at once

struct RecodeShared {
    union {
        PageShared page;
        uint16_t upper[gathered * dim_limit];  // rows of tokens 32 .. 63, of a page that stays 16 bits
    };
    uint16_t rows[gathered * dim_limit];
    SharedRow row[warps];
};

KVC_DEVICE uint16_t rounded(float x, bool bf16) {
    const float largest = bf16 ? 0x1.fep127f : 65504.0f;
    x = x > largest ? largest : x < -largest ? -largest : x;
    return bf16 ? uint16_t(simt::pack_bfloats(x, 0.0f)) : simt::float_to_half(x);
}

// The new numbers of a slot in one part; nullptr: it has none.
KVC_DEVICE const float* folded_row(const RecodeJob& job, bool keys, int slot) {
    if (!(job.folded >> slot & 1)) {
        return nullptr;
    }
    const FoldedRow& row = job.folds[simt::count_bits(job.folded & ((uint64_t{1} << slot) - 1))];
    return keys ? row.k : row.v;
}

// One part of the new page's tokens first .. first + 31, in 16 bits; a warp takes each fourth token.
KVC_DEVICE void gather_rows(const RecodeArgs& args, const RecodeJob& job, bool keys, int first, uint16_t* out, RecodeShared* s) {
    const int dim = keys ? args.k.dim : args.v.dim;
    const bool rotate = keys ? args.rotate_k : args.rotate_v, rotated = keys ? args.rotated_k : args.rotated_v;
    SharedRow* const row = &s->row[simt::warp()];
    for (int t = simt::warp(); t < gathered; t += warps) {
        const SourcePage& from = job.from[job.page[first + t]];
        const int slot = job.slots[first + t];
        const float* const folded = folded_row(job, keys, first + t);
        for (int i = simt::lane(); i < dim; i += 32) {
            row->x[i] = folded ? folded[i] : number_of(from, keys, slot, i);
        }
        if (folded && rotated) {
            simt::sync_warp();
            rotate_row(row, dim);
        }
        if (rotate) {
            simt::sync_warp();
            rotate_row(row, dim);
            rotate_row(row, dim);
        }
        for (int i = simt::lane(); i < dim; i += 32) {  // a lane's own numbers, unless they were rotated
            out[t * dim + i] = rounded(row->x[i], args.bf16);
        }
        simt::sync_warp();
    }
}

// Over what they were coded to, which only tokens that do not move keep.
KVC_DEVICE void move_values(const RecodeArgs& args, const RecodeJob& job, PageShared* s) {
    for (int t = simt::warp(); t < page_tokens; t += warps) {
        if (!(job.moved >> t & 1)) {
            continue;
        }
        const SourcePage& from = job.from[job.page[t]];
        const int slot = job.slots[t];
        for (int i = simt::lane(); i < args.v.dim; i += 32) {
            s->codes[t][i] = uint8_t(value_code(from, slot, i));
        }
        for (int g = simt::lane(); g < args.v.groups; g += 32) {
            const std::byte* const scale = value_scale(from, slot, g);
            s->value_scale[g][t] = *reinterpret_cast<const uint16_t*>(scale);
            s->value_zero[g][t] =
                args.meta.v_groups ? *reinterpret_cast<const uint16_t*>(scale + args.v.groups * value_group_bytes) : uint16_t(0);
        }
    }
}

// ---- the page ----

// A source may be the record itself: of each part all is read before any of it is written. Records that share bytes with the new one are
// of its own form, so that keys lie where keys lay.

KVC_DEVICE void recode_rows(const RecodeArgs& args, const RecodeJob& job, RecodeShared* s) {
    for (int part = 0; part < 2; part++) {
        const bool keys = part == 0;
        const int dim = keys ? args.k.dim : args.v.dim, words = gathered * dim / 2;
        gather_rows(args, job, keys, 0, s->rows, s);
        gather_rows(args, job, keys, gathered, s->upper, s);
        simt::sync_block();
        auto* const out = reinterpret_cast<uint32_t*>(job.record + (keys ? 0 : page_tokens * args.k.dim * 2));
        for (int i = simt::thread(); i < words; i += threads) {
            out[i] = reinterpret_cast<const uint32_t*>(s->rows)[i];
            out[words + i] = reinterpret_cast<const uint32_t*>(s->upper)[i];
        }
        simt::sync_block();
    }
}

// Words of one table of a record's keys, from the source's.
KVC_DEVICE void keep_words(const RecodeJob& job, int64_t offset, int64_t bytes) {
    const auto* const from = reinterpret_cast<const uint32_t*>(job.from->record + offset);
    auto* const to = reinterpret_cast<uint32_t*>(job.record + offset);
    for (int64_t i = simt::thread(); i < bytes / 4; i += threads) {
        to[i] = from[i];
    }
}

KVC_DEVICE void keep_keys(const RecodeArgs& args, const RecodeJob& job) {
    if (job.record == job.from->record) {
        return;
    }
    keep_words(job, args.k_layout.codes, args.k_layout.codes_bytes);
    keep_words(job, args.k_layout.meta, args.k_layout.meta_bytes);
    keep_words(job, args.k_layout.super, args.k_layout.super_bytes);
}

KVC_DEVICE void recode_keys(const RecodeArgs& args, const RecodeJob& job, RecodeShared* s) {
    if (job.keeps_keys) {
        keep_keys(args, job);
        return;
    }
    const int n = page_tokens / args.meta.k_groups;
    const auto* const rows = reinterpret_cast<const std::byte*>(s->rows);
    for (int group = 0; group < args.meta.k_groups; group++) {
        const int begin = group * n, last = begin + n - gathered;
        for (int first = begin; first <= last; first += gathered) {
            gather_rows(args, job, true, first, s->rows, s);
            simt::sync_block();
            widen_ranges(args.k, rows, gathered, first == begin, &s->page);
            simt::sync_block();
        }
        settle_ranges(args.k, args.meta.k_halves, group, &s->page);
        code_keys(args.k, rows, last, gathered, &s->page);  // still there
        simt::sync_block();
        for (int first = begin; first < last; first += gathered) {
            gather_rows(args, job, true, first, s->rows, s);
            simt::sync_block();
            code_keys(args.k, rows, first, gathered, &s->page);
            simt::sync_block();
        }
    }
    write_codes_of<true>(args.k, s->page, 4, job.record + args.k_layout.codes);
    write_key_metadata(s->page, args.k.dim, args.meta, job.record + args.k_layout.meta, job.record + args.k_layout.super);
    simt::sync_block();
}

KVC_DEVICE void recode_values(const RecodeArgs& args, const RecodeJob& job, RecodeShared* s) {
    for (int tile = 0; tile < 2 && job.moved != all_live; tile++) {
        gather_rows(args, job, false, tile * gathered, s->rows, s);
        simt::sync_block();
        encode_values(args.v, reinterpret_cast<const std::byte*>(s->rows), tile * gathered, gathered, &s->page);
        simt::sync_block();
    }
    move_values(args, job, &s->page);
    simt::sync_block();
    write_codes_of<false>(args.v, s->page, widest_run(args.meta.v_groups), job.record + args.v_layout.codes);
    write_value_metadata(s->page, args.v.groups, args.meta.v_groups, job.record + args.v_layout.meta);
}

// The whole block: all positions are read before any is written.
KVC_DEVICE void gather_positions(const RecodeJob& job) {
    const int t = simt::thread();
    int64_t position = 0;
    if (t < page_tokens) {
        const SourcePage& from = job.from[job.page[t]];
        const int slot = job.slots[t];
        position = from.side ? reinterpret_cast<const int64_t*>(from.side)[slot] : from.first_position + slot;
    }
    simt::sync_block();
    if (t < page_tokens) {
        reinterpret_cast<int64_t*>(job.side)[t] = position;
    }
}

KVC_KERNEL(threads, 2) recode_pages(RecodeArgs args) {
    KVC_SHARED(RecodeShared, shared);
    const RecodeJob& job = args.jobs[simt::block_x()];
    if (job.side) {
        gather_positions(job);
    }
    if (args.rows) {
        recode_rows(args, job, &shared);
        return;
    }
    recode_keys(args, job, &shared);
    recode_values(args, job, &shared);
    for (int i = args.end + simt::thread(); i < args.bytes; i += threads) {
        job.record[i] = std::byte{0};
    }
}

}  // namespace kvc::cuda
