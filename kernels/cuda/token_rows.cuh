// Rows of a run of tokens in shared memory, in the basis of append. A warp reads a token, most of it in words that its neighbours share.
#pragma once
#include "kernels/cuda/rotation.cuh"
#include "kernels/cuda/source_page.cuh"

namespace kvc::cuda {

constexpr int run_tokens = int(statistic_run);

// The way from a list of tokens to one part of their rows.
struct RowReader {
    const SourcePage* pages;
    const uint32_t* places;
    bool keys;
    int dim;
    bool rotated;  // what lies there

    // By all lanes of a warp.
    KVC_DEVICE void read(int64_t token, SharedRow* row) const {
        const uint32_t place = places[token];
        const SourcePage& page = pages[place / page_tokens];
        for (int i = simt::lane(); i < dim; i += 32) {
            row->x[i] = number_of(page, keys, int(place % page_tokens), i);
        }
        simt::sync_warp();
        if (rotated) {
            rotate_row(row, dim);
        }
    }
};

// A number more than a row has, so that threads with a row each do not meet in one bank.
struct RunRows {
    float x[run_tokens][dim_limit + 1];
    SharedRow row[warps];
};

// Tokens first .. first + n - 1; by all threads of the block.
KVC_DEVICE void gather_run(const RowReader& reader, int64_t first, int n, RunRows* s) {
    SharedRow* const row = &s->row[simt::warp()];
    for (int t = simt::warp(); t < n; t += warps) {
        reader.read(first + t, row);
        for (int i = simt::lane(); i < reader.dim; i += 32) {
            s->x[t][i] = row->x[i];
        }
        simt::sync_warp();
    }
    simt::sync_block();
}

}  // namespace kvc::cuda
