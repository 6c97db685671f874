// What a device does for merging: finds the kept token that each leaving one joins, and takes the means of those that come together.
//
// Numbers are those of core/policy/merging.h, the same bits wherever they are taken.
#pragma once
#include "core/backend/key_statistics.h"

namespace kvc {

struct RouteJob {
    const LayerFormat* format;  // of the layer
    TokenList leaving, kept;
    double least;  // cosine
    int64_t* out;  // [leaving.n]: the number among the kept of the most similar key, of equal ones the last; -1: all are below `least`
};

// Tokens that others join: fold f is of members ends[f - 1] .. ends[f] - 1, itself first.
struct FoldJob {
    const LayerFormat* format;  // of the layer
    TokenList members;
    const int64_t* weights;  // [members.n]: how many tokens each stands for
    const int64_t* ends;     // [folds], ascending
    int64_t folds;
    bool new_keys;  // otherwise keys are those of the first members, as they are
    float* rows;    // of the device, [folds][k_dim + v_dim]: the means in the basis of append
};

}  // namespace kvc
