// Attention mass: the logits of attend once more, bit for bit those of the item's class, against the final log-sum-exp; every p in
// units of 2^-30 is added to its token's counter. Sums of integers have no order, so atomics leave the same bits every time.
#pragma once
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/attend_prompt.cuh"

namespace kvc::cuda {

// What a row of the item adds to a token's counter, of its logit over ln 2. A row that saw nothing, or one that the item does not have,
// has an lse of -infinity.
KVC_DEVICE int mass_of(float x, float lse) {
    // As attend and finish hand it on, so that a lone token's logit is its lse exactly.
    const float logit = simt::multiply(x, ln_2);
    const float p = simt::exp2((logit - lse) * log2_e);
    return lse > -simt::infinity() && p > 0.0f ? simt::round_to_int((p < 1.0f ? p : 1.0f) * 0x1p30f) : 0;
}

KVC_DEVICE float lse_of_row(const AttendArgs& args, const MassItem& mass, int row) {
    const int64_t token = row / args.group, head = row % args.group;
    return token < mass.item.tokens ? mass.lse[token * mass.lse_token_stride + head] : -simt::infinity();
}

// Counters of tokens beyond the last that can be seen need not exist: nothing is added to them.
KVC_DEVICE void add_to_counter(int64_t* counter, int64_t mass) {
    if (mass != 0) {
        simt::atomic_add(counter, mass);
    }
}

// ---- prompt class ----

template <int tiles>
KVC_DEVICE void add_prompt_mass(const float (&x)[tiles][8][4], const float (&lse)[tiles][2], int64_t* counters) {
    KVC_UNROLL
    for (int i = 0; i < 16; i++) {
        long long sum = 0;
        KVC_UNROLL
        for (int m = 0; m < tiles; m++) {
            sum += mass_of(x[m][i / 2][i % 2], lse[m][0]);
            sum += mass_of(x[m][i / 2][2 + i % 2], lse[m][1]);
        }
        KVC_UNROLL
        for (int distance = 4; distance < 32; distance *= 2) {
            sum += simt::shuffle_xor(sum, distance);
        }
        if (simt::lane() < 4) {
            add_to_counter(counters + 8 * (i / 2) + 2 * simt::lane() + i % 2, sum);
        }
    }
}

template <int KD, int tiles, bool general>
KVC_KERNEL(threads, 2)
mass_prompt(PromptArgs args, const MassItem* items) {
    using Shared = PromptShared<KD, 0, tiles>;
    std::byte* const shared = simt::dynamic_shared();
    const MassItem& mass = items[simt::block_y()];
    const AttendItem& item = mass.item;
    if (Shared::rows * simt::block_x() >= item.tokens * args.attend.group) {
        return;
    }
    float* const bias = reinterpret_cast<float*>(shared + Shared::bias);
    float* const lifts = reinterpret_cast<float*>(shared + Shared::lifts);
    load_prompt_rows<KD, 0, tiles, general>(args, item, shared);
    const int first_row = Shared::rows * simt::block_x() + 16 * tiles * simt::warp();
    float lse[tiles][2];
    KVC_UNROLL
    for (int i = 0; i < 2 * tiles; i++) {
        lse[i / 2][i % 2] = lse_of_row(args.attend, mass, first_row + 8 * i + simt::lane() / 4);
    }
    for_each_prompt_page<Shared>(args, item, &mass, shared, [&](const PromptPage& page) {
        const float unit = fill_prompt_keys<KD, general>(args, item, page, shared + Shared::keys, bias, lifts);
        simt::sync_block();
        const WarpPrompt warp = prompt_warp<KD, 0, tiles>(args, item, shared);
        if (sees_nothing<tiles>(warp, page.tokens)) {
            return;
        }
        float x[tiles][8][4];
        prompt_logits<KD>(warp, page, shared + Shared::keys + tile_offset(0, 0, warp.lane), unit, bias, x);
        add_prompt_mass(x, lse, page.counters);
    });
}

// ---- decode class ----

// One warp at work on eight rows.
template <int KD, int VD, PageKind kind>
struct WarpMass {
    WarpAttend<KD, VD, kind> attend;
    float lse[2];  // of the rows whose scores this lane has
};

template <int tiles>
KVC_DEVICE void add_decode_mass(const float (&x)[tiles][4], const float (&lse)[2], int64_t* counters) {
    KVC_UNROLL
    for (int i = 0; i < 2 * tiles; i++) {
        const int t = i / 2, upper = i % 2;
        long long sum = static_cast<long long>(mass_of(x[t][2 * upper], lse[0])) + mass_of(x[t][2 * upper + 1], lse[1]);
        sum += simt::shuffle_xor(sum, 1);
        sum += simt::shuffle_xor(sum, 2);
        if (simt::lane() % 4 == 0) {
            add_to_counter(counters + 16 * t + 8 * upper + simt::lane() / 4, sum);
        }
    }
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void mass_coded_page(const Page& page, const WarpMass<KD, VD, kind>& warp, int64_t* counters) {
    float x[4][4];
    coded_scores<kind, KD, VD>(simt::GlobalBytes{page.record}, warp.attend.query, x);
    finish_scores(warp.attend, sees_all<4>(warp.attend.rows, page.tokens), page.tokens, x);
    add_decode_mass(x, warp.lse, counters);
}

template <bool partial, int KD, int VD, PageKind kind>
KVC_DEVICE void mass_row_page(const std::byte* record, uint64_t present, const RunTokens& page, const WarpMass<KD, VD, kind>& warp,
                              int64_t* counters) {
    KVC_NO_UNROLL
    for (int start = 0; start < page_tokens && present >> start != 0; start += 16) {
        float x[1][4];
        const RowRun<simt::GlobalBytes, partial> rows{{record + start * KD * 2}, {nullptr}, uint32_t(present >> start)};
        const RunTokens run = run_of_page(page, start);
        row_scores(rows, warp.attend.query, x[0]);
        finish_scores(warp.attend, sees_all<1>(warp.attend.rows, run), run, x);
        add_decode_mass(x, warp.lse, counters + start);
    }
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void mass_coded(const MassItem& mass, const WarpMass<KD, VD, kind>& warp) {
    const AttendItem& item = mass.item;
    for (int64_t e = first_entry_of_warp(item.coded_position); e < item.n_coded; e += warps) {
        const Page page =
            find_page(warp.attend.args, warp.attend.rows, item.coded, e, item.coded_position, warp.attend.args.code_bytes);
        if (!page.record) {
            continue;
        }
        if constexpr (holds_rows<kind>) {
            mass_row_page<false>(page.record, all_live, page.tokens, warp, mass.coded + page_tokens * e);
        } else {
            mass_coded_page(page, warp, mass.coded + page_tokens * e);
        }
    }
}

template <int KD, int VD, PageKind kind>
KVC_DEVICE void mass_rows(const MassItem& mass, const WarpMass<KD, VD, kind>& warp) {
    const AttendItem& item = mass.item;
    for (int64_t e = first_entry_of_warp(item.window_position); e < item.n_window; e += warps) {
        const Page page =
            find_page(warp.attend.args, warp.attend.rows, item.window, e, item.window_position, warp.attend.args.window_bytes);
        if (page.record) {
            const uint64_t written = page.tokens.positions ? all_live : written_from(warp.attend, page.tokens.first);
            mass_row_page<true>(page.record, page.tokens.live & written, page.tokens, warp, mass.window + page_tokens * e);
        }
    }
    if (item.sinks != 0 && item.sink_tokens != 0 && simt::warp() == 0) {
        const uint64_t live = all_live >> (page_tokens - item.sink_tokens);
        const std::byte* const record = record_address(warp.attend.args, item.sinks, warp.attend.args.sink_bytes);
        mass_row_page<true>(record, live & written_from(warp.attend, item.sinks_position), {item.sinks_position, nullptr, live}, warp,
                            mass.sinks);
    }
}

template <int KD, int VD, PageKind kind>
KVC_KERNEL(threads, 2)
mass_decode(AttendArgs args, const MassItem* items) {
    const MassItem& mass = items[simt::block_y()];
    const AttendItem& item = mass.item;
    const int first_row = tile_rows * simt::block_x();
    if (first_row >= item.tokens * args.group) {
        return;
    }
    const int row = first_row + 2 * (simt::lane() % 4);
    WarpMass<KD, VD, kind> warp{{args, ItemRows::of(args, item, first_row, false, nullptr), {}, {}},
                                {lse_of_row(args, mass, row), lse_of_row(args, mass, row + 1)}};
    load_queries(args, item, first_row, &warp.attend.query);
    mass_coded(mass, warp);
    mass_rows(mass, warp);
}

}  // namespace kvc::cuda
