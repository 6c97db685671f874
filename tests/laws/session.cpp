#include "tests/laws/session.h"

#include <algorithm>
#include <cstdlib>
#include <kvc.h>
#include <set>
#include <sstream>

namespace kvc_laws {

using kvc_scripts::Operation;
using kvc_scripts::Outcome;

namespace {

std::vector<std::string> lines_of(const std::string& create) {
    std::vector<std::string> all;
    std::istringstream lines(create);
    std::string line;
    while (std::getline(lines, line, ';')) {
        const bool is_layer = line.find("layer ") != std::string::npos && line.find("layers=") == std::string::npos;
        all.push_back(is_layer ? line : "create growth=1 " + line);
    }
    return all;
}

}  // namespace

Session::Session(const std::string& create, const kvc_scripts::RunOptions& options) : replay(options) {
    for (const std::string& line : lines_of(create))
        ok(line);
}

bool is_served(const std::string& create) {
    static std::set<std::string> said;
    if (kvc_scripts::device_of_scripts() != KVC_CUDA) return true;
    kvc_scripts::Replay replay{kvc_scripts::RunOptions{}};
    Outcome last;
    for (const std::string& line : lines_of(create))
        last = replay.run(kvc_scripts::parse(line).at(0));
    const bool refused = last.status == KVC_E_UNSUPPORTED && last.message.find(" does not serve layer ") != std::string::npos;
    if (refused && said.insert(last.message).second) MESSAGE("left out: " << last.message);
    return !refused;
}

Outcome Session::run(const std::string& line) { return replay.run(kvc_scripts::parse(line).at(0)); }

Outcome Session::ok(const std::string& line) {
    Outcome outcome = run(line);
    REQUIRE_MESSAGE(outcome.status == KVC_OK, line << ": " << outcome.message);
    return outcome;
}

Bytes Session::open(const std::string& step, const std::string& counts) {
    ok("begin " + step + " " + counts);
    Bytes out;
    for (int64_t l = 0; l < replay.shapes().options.layers; ++l) {
        const std::string words = " " + step + " seed=1 layer=" + std::to_string(l);
        ok("append" + words);
        const Outcome attended = ok("attend" + words);
        out.insert(out.end(), attended.bytes.begin(), attended.bytes.end());
    }
    return out;
}

Bytes Session::step(const std::string& counts) {
    const std::string name = "step" + std::to_string(++steps_);
    Bytes out = open(name, counts);
    ok("commit " + name);
    return out;
}

Bytes Session::feed(const std::string& sequence, int64_t tokens, int64_t chunk, const std::string& options) {
    // Rows of one token after another, whatever the steps: the layers of a step come apart again.
    const auto layers = static_cast<size_t>(replay.shapes().options.layers);
    std::vector<Bytes> by_layer(layers);
    while (tokens > 0) {
        const int64_t n = std::min(chunk, tokens);
        const std::string name = "step" + std::to_string(++steps_);
        ok("begin " + name + " " + sequence + ":" + std::to_string(n) + " " + options);
        for (size_t l = 0; l < layers; ++l) {
            const std::string words = " " + name + " seed=1 lse=0 layer=" + std::to_string(l);
            ok("append" + words);
            const Outcome attended = ok("attend" + words);
            by_layer[l].insert(by_layer[l].end(), attended.bytes.begin(), attended.bytes.end());
        }
        ok("commit " + name);
        tokens -= n;
    }
    Bytes all;
    for (const Bytes& layer : by_layer)
        all.insert(all.end(), layer.begin(), layer.end());
    return all;
}

Bytes Session::stored(const std::string& sequence) {
    Bytes all;
    const auto add = [&](const std::string& line) {
        const Outcome outcome = run(line);
        REQUIRE_MESSAGE((outcome.status == KVC_OK || outcome.status == KVC_E_UNSUPPORTED), line << ": " << outcome.message);
        all.insert(all.end(), outcome.bytes.begin(), outcome.bytes.end());
    };
    add("length " + sequence);
    for (int64_t l = 0; l < replay.shapes().options.layers; ++l)
        for (int64_t head = 0; head < replay.shapes().layers[l].kv_heads; ++head) {
            const std::string words = " " + sequence + " layer=" + std::to_string(l) + " head=" + std::to_string(head);
            for (const char* verb : {"positions", "mass", "read part=keys", "read part=values", "codes part=keys", "codes part=values"})
                add(verb + words);
            std::vector<int64_t> counts(static_cast<size_t>(number("live" + words)));
            REQUIRE(kvc_seq_read_counts(replay.cache(), replay.handle_of(sequence), l, head, counts.data(),
                                        static_cast<int64_t>(counts.size()), nullptr, nullptr) == KVC_OK);
            const auto* bytes = reinterpret_cast<const uint8_t*>(counts.data());
            all.insert(all.end(), bytes, bytes + counts.size() * sizeof(int64_t));
        }
    return all;
}

std::string short_window(const std::string& preset, int64_t window, int64_t sinks) {
    char text[128];
    REQUIRE(kvc_codec_format(preset.c_str(), text, sizeof text, nullptr) > 0);
    const std::string codec = text;
    return codec.substr(0, codec.find(",window=")) + ",window=" + std::to_string(window) + ",sinks=" + std::to_string(sinks);
}

bool laws_are_thinned() {
    static const bool thinned = std::getenv("KVC_LAWS_THINNED") != nullptr;
    return thinned;
}

std::vector<std::string> presets() {
    if (laws_are_thinned()) return {"fp16", "int4", "k3v2", "kivi2"};  // rows, codes, codes of two widths, groups
    std::vector<std::string> names;
    for (int64_t i = 0; i < kvc_preset_count(); ++i)
        names.emplace_back(kvc_preset_name(i));
    return names;
}

std::vector<std::string>& targets_of_laws() {
    static std::vector<std::string> names;
    return names;
}

std::vector<std::string> targets() {
    std::vector<std::string> names = targets_of_laws();
    if (!names.empty()) return names;
    for (int64_t i = 0; i < kvc_target_count(); ++i)
        names.emplace_back(kvc_target_name(i));
    if (laws_are_thinned()) return {names.front(), names.back()};
    return names;
}

}  // namespace kvc_laws
