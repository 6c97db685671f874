// The rotation of docs/FORMATS.md by one warp, in its order of operations: the bits are those of every other backend.
// For translation units without contraction of multiply and add (-fmad=false).
#pragma once
#include "core/codec/format.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

struct SharedRow {
    float x[dim_limit];
};

// 1 / sqrt(block), rounded to f32.
KVC_DEVICE float rotation_norm(int block) {
    return block == 16 ? 0x1p-2f : block == 32 ? 0x1.6a09e6p-3f : block == 64 ? 0x1p-3f : block == 128 ? 0x1.6a09e6p-4f : 0x1p-4f;
}

// All lanes of the warp; the row is written and read by this warp alone.
KVC_DEVICE void rotate_row(SharedRow* row, int dim) {
    const int block = dim & -dim, lane = simt::lane();
    for (int distance = 1; distance < block; distance *= 2) {
        for (int pair = lane; pair < dim / 2; pair += 32) {
            const int i = pair / distance * 2 * distance + pair % distance;
            const float a = row->x[i], b = row->x[i + distance];
            row->x[i] = a + b;
            row->x[i + distance] = a - b;
        }
        simt::sync_warp();
    }
    const float norm = rotation_norm(block);
    for (int i = lane; i < dim; i += 32) {
        row->x[i] *= norm;
    }
    simt::sync_warp();
}

}  // namespace kvc::cuda
