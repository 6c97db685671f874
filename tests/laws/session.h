// A cache driven by script lines (docs/SCRIPTS.md), with what the laws compare: outputs and stored bytes.
//
// The data of a token depends on its position alone, so two sessions that cut one stream differently are fed the same numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/model/replay.h"

namespace kvc_laws {

using Bytes = std::vector<uint8_t>;

class Session {
public:
    // The words of a create line; lines before it ("layer ...") may precede it, separated by a semicolon.
    explicit Session(const std::string& create, const kvc_scripts::RunOptions& options = {});

    kvc_scripts::Outcome run(const std::string& line);
    // Must succeed.
    kvc_scripts::Outcome ok(const std::string& line);
    int64_t number(const std::string& line) { return ok(line).numbers.at(0); }
    std::string status(const std::string& line) { return kvc_scripts::status_word(run(line).status); }

    // begin ("a:5 b:1", and options) with append and attend of every layer; the step stays open. Returns what attend gave.
    Bytes open(const std::string& step, const std::string& counts);
    // The same, committed.
    Bytes step(const std::string& counts);
    // Feeds `tokens` tokens in steps of `chunk`.
    Bytes feed(const std::string& sequence, int64_t tokens, int64_t chunk, const std::string& options = "");
    // Everything that a sequence holds: length, positions, keys, values, codes, mass and counts of all layers and heads.
    Bytes stored(const std::string& sequence);
    // Numbers of a stats line by place: 0 arena, 1 bound, 2 record, 3 sinks, 4 window, 5 codes, 6 reserved, 7 side bytes.
    std::vector<int64_t> stats() { return ok("stats").numbers; }

    kvc_scripts::Replay replay;

private:
    int64_t steps_ = 0;
};

// Whether the device of scripts has kernels for a cache (the words of Session); what it has none for is said, once for each reason. The CPU
// has all. Laws leave out of their lists what is not served.
bool is_served(const std::string& create);

// Canonical codec strings with a short window, so that few tokens reach the codes.
std::string short_window(const std::string& preset, int64_t window, int64_t sinks);
std::vector<std::string> presets();
// Whether presets() and policies() are cut down to one of each family, targets() and other lists to the first and the last, and random
// walks to an eighth, where all would take too long: KVC_LAWS_THINNED in the environment.
bool laws_are_thinned();
template <class T>
std::vector<T> thinned(std::initializer_list<T> list) {
    if (laws_are_thinned()) return {*list.begin(), *(list.end() - 1)};
    return list;
}
inline int thinned_walks(int count) { return laws_are_thinned() ? count / 8 : count; }
// The kernels that a law holds on: all of the library's, scalar ones last, unless a program names others before any test.
std::vector<std::string> targets();
std::vector<std::string>& targets_of_laws();

}  // namespace kvc_laws
