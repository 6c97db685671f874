// What kernels that code need to know of a part.
#pragma once
#include "core/codec/codec.h"

namespace kvc::cuda {

// How one part is coded; see Grid in core/codec/canonical_body.h.
struct PartGrid {
    int bits, dim;
    float last;    // the largest code
    float span;    // steps between the zero point and the largest number
    float middle;  // the code of 0, without a zero point
    float clip;
    bool symmetric, least_squares;
    float first_step;  // of least squares, for a variance of 1
    int groups;        // of a token's channels
};

// ---- on the host ----

inline float gaussian_step(CodeType type) {
    switch (type) {
#define KVC_CODE_TYPE(name, bits, high, step) \
    case CodeType::name:                      \
        return step;
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
    default:
        return 0.0f;
    }
}

inline PartGrid grid_of(const Codec& codec, int dim) {
    const int levels = 1 << bits_of(codec.type);
    const bool least_squares = codec.fit == Fit::least_squares;
    const int groups = codec.axis == Axis::token && codec.group ? dim / codec.group : 1;
    return {bits_of(codec.type),       dim,        float(levels - 1), float(codec.symmetric ? levels / 2 - 1 : levels - 1),
            middle_of(codec),          codec.clip, codec.symmetric,   least_squares,
            gaussian_step(codec.type), groups};
}

}  // namespace kvc::cuda
