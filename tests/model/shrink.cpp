#include "tests/model/shrink.h"

#include <algorithm>

namespace kvc_scripts {
namespace {

class Shrinker {
public:
    Shrinker(Script script, const Fails& fails, int64_t attempts) : best_(std::move(script)), fails_(fails), attempts_(attempts) {}

    Script run() {
        for (bool smaller = true; smaller && attempts_ > 0;) {
            smaller = remove_lines();
            smaller = remove_counts() || smaller;
            smaller = remove_arguments() || smaller;
            smaller = lower_numbers() || smaller;
        }
        return best_;
    }

private:
    bool try_out(const Script& candidate) {
        if (attempts_-- <= 0 || !fails_(candidate)) return false;
        best_ = candidate;
        return true;
    }

    bool remove_lines() {
        bool smaller = false;
        for (size_t size = std::max<size_t>(1, best_.size() / 2); size > 0; size /= 2)
            for (size_t from = 0; from < best_.size();) {
                Script candidate = best_;
                const size_t end = std::min(from + size, candidate.size());
                candidate.erase(candidate.begin() + static_cast<std::ptrdiff_t>(from),
                                candidate.begin() + static_cast<std::ptrdiff_t>(end));
                if (try_out(candidate))
                    smaller = true;
                else
                    from += size;
            }
        return smaller;
    }

    bool remove_counts() {
        bool smaller = false;
        for (size_t i = 0; i < best_.size(); ++i)
            for (size_t c = 0; best_[i].verb == "begin" && best_[i].counts.size() > 1 && c < best_[i].counts.size();) {
                Script candidate = best_;
                candidate[i].counts.erase(candidate[i].counts.begin() + static_cast<std::ptrdiff_t>(c));
                if (try_out(candidate))
                    smaller = true;
                else
                    ++c;
            }
        return smaller;
    }

    bool remove_arguments() {
        bool smaller = false;
        for (size_t i = 0; i < best_.size(); ++i)
            for (const auto& [key, value] : Operation(best_[i]).arguments) {
                Script candidate = best_;
                candidate[i].arguments.erase(key);
                smaller = try_out(candidate) || smaller;
            }
        return smaller;
    }

    // Halves a number as often as the script still fails, then takes single steps.
    template <typename Set>
    bool lower(int64_t value, Set set) {
        bool smaller = false;
        for (int64_t step = value / 2 + value % 2; step > 0;) {
            Script candidate = best_;
            set(candidate, value - step);
            if (value - step >= 0 && try_out(candidate))
                value -= step, smaller = true, step = std::min(step, value);
            else
                step /= 2;
        }
        return smaller;
    }

    bool lower_numbers() {
        bool smaller = false;
        for (size_t i = 0; i < best_.size(); ++i) {
            for (size_t c = 0; c < best_[i].counts.size(); ++c)
                smaller = lower(best_[i].counts[c].second, [&](Script& s, int64_t n) { s[i].counts[c].second = n; }) || smaller;
            for (const char* key : {"layers", "kv_heads", "q_heads", "length", "budget", "seed", "data", "first_position", "n", "first",
                                    "recent", "rung", "budget_bytes", "flip"}) {
                const std::string text = best_[i].word(key);
                if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) continue;
                smaller = lower(best_[i].number(key), [&](Script& s, int64_t n) { s[i].set(key, n); }) || smaller;
            }
        }
        return smaller;
    }

    Script best_;
    const Fails& fails_;
    int64_t attempts_;
};

}  // namespace

Script shrink(Script script, const Fails& fails, int64_t attempts) { return Shrinker(std::move(script), fails, attempts).run(); }

}  // namespace kvc_scripts
