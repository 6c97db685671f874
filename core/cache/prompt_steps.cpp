#include "core/cache/prompt_steps.h"

#include <algorithm>
#include <numeric>

#include "core/base/size.h"

namespace kvc {
namespace {

int64_t last_boundary(int64_t period, int64_t below) { return period == 0 ? 0 : (below - 1) / period * period; }

// Steps between two boundaries. Their places repeat, so that the last ones are enough.
void add_between(const StepCuts& cuts, int64_t begin, int64_t end, std::vector<StepStart>* starts) {
    const int64_t step = cuts.step_tokens, place = cuts.place_period();
    const int64_t steps = ceil_div(end - begin, step);
    const int64_t looked_at = place / std::gcd(place, step) + ceil_div(place, step) + 2;
    for (int64_t i = steps - 1; i >= std::max<int64_t>(0, steps - looked_at); i--)
        starts->push_back({begin + i * step, std::min(step, end - begin - i * step)});
}

}  // namespace

std::vector<StepStart> step_starts(const StepCuts& cuts, int64_t length) {
    const int64_t place = cuts.place_period();
    // After so many tokens both kinds of boundaries lie as they lay, to each other and within pages.
    const int64_t cycle = std::lcm(place, std::max<int64_t>(1, cuts.every));
    std::vector<StepStart> starts;
    bool saw_whole = false;  // a period of ages that no boundary of the policy cuts: all of these are alike
    for (int64_t end = length; end > 0 && end + cycle + place > length;) {
        const int64_t of_policy = last_boundary(cuts.every, end), of_ages = last_boundary(cuts.ages, end);
        const int64_t begin = std::max(of_policy, of_ages);
        const bool whole = cuts.ages > 0 && end - begin == cuts.ages && begin == of_ages;
        if (whole && saw_whole) {
            end = ceil_div(of_policy, cuts.ages) * cuts.ages;
            continue;
        }
        saw_whole |= whole && end <= length - place;
        add_between(cuts, begin, end, &starts);
        end = begin;
    }
    return starts;
}

}  // namespace kvc
