// The steps in which prompts are read: where they begin, and how long they are.
#pragma once
#include <cstdint>
#include <vector>

#include "core/store/page_rule.h"

namespace kvc {

// What ends a step: so many tokens, and boundaries of two kinds, at multiples of these (0: there are none).
struct StepCuts {
    int64_t step_tokens = 1;
    int64_t every = 0;  // of the policy
    int64_t ages = 0;   // at which pages step down; a multiple of page_tokens

    // Two steps of one length whose starts are a multiple of this apart do the same, the later one on top of as much of everything or more.
    int64_t place_period() const { return ages > 0 ? ages : page_tokens; }
};

struct StepStart {
    int64_t at = 0;
    int64_t tokens = 0;  // up to the next cut, or up to the end of the longest prompt

    int64_t end() const { return at + tokens; }
};

// The steps of a prompt of `length` tokens, the latest first. Those are left out that are of the same length and place as others between
// them and length - place_period().
std::vector<StepStart> step_starts(const StepCuts& cuts, int64_t length);

}  // namespace kvc
