#include "tests/model/generate_all.h"

#include <algorithm>
#include <memory>
#include <set>
#include <stdexcept>

#include "tests/model/cache_view.h"
#include "tests/model/create_line.h"

namespace kvc_scripts {
namespace {

using kvc_reference::Choices;

constexpr int64_t most_tokens = 620;  // of a sequence: past 512, where the pages of a ladder with ages go down
const RunOptions scalar{"scalar", 0};
const std::string nobody = "nobody";  // a name that no sequence gets

// Writes what the library answers behind the operation.
Outcome answer(Replay& replay, Operation& operation) {
    Outcome outcome = replay.run(operation);
    if (outcome.status == KVC_E_INTERNAL) throw std::runtime_error(print(operation) + ": " + outcome.message);
    operation.expected = outcome.status == KVC_OK ? "" : status_word(outcome.status);
    return outcome;
}

class AllGenerator : CacheView {
public:
    AllGenerator(uint64_t seed, int64_t operations) : seed_(seed), operations_(operations), pick_(seed ^ 0x616c6cu) {}

    Script make() {
        if (!create()) return script_;
        while (static_cast<int64_t>(script_.size()) < operations_ && (!alive_.empty() || refused_ < 4))
            operation();
        return script_;
    }

private:
    // In most languages a sequence that was never made belongs to no cache, and nothing but its handle can be wrong: other answers are
    // left out.
    bool add(Operation line) {
        const int32_t status = answer(*replay_, line).status;
        const bool of_nobody = std::find(line.names.begin(), line.names.end(), nobody) != line.names.end() ||
                               std::any_of(line.counts.begin(), line.counts.end(), [](const auto& c) { return c.first == nobody; });
        if (!of_nobody || status == KVC_E_HANDLE) script_.push_back(std::move(line));
        return status == KVC_OK;
    }

    static Operation line(const std::string& verb, std::vector<std::string> names = {}) {
        Operation made;
        made.verb = verb, made.names = std::move(names);
        return made;
    }

    // A cache that is refused ends the script, after its plan. Few do: mostly another one is tried.
    bool create() {
        for (;;) {
            replay_ = std::make_unique<Replay>(scalar);
            script_.clear();
            bool made = false;
            for (Operation& given : create_lines(seed_, pick_))
                made = add(given);
            if (made) return true;
            if (!pick_.one_in(25)) continue;
            add(line("plan").set("tokens", 100));
            return false;
        }
    }

    // ---- Choices ----

    bool is_idle(const std::string& name) const {
        return std::none_of(open_steps_.begin(), open_steps_.end(), [&](const std::string& step) {
            const std::vector<std::string>& held = replay_->step(step).sequences;
            return std::find(held.begin(), held.end(), name) != held.end();
        });
    }

    std::string fresh(const char* kind) { return kind + std::to_string(++names_); }

    std::string sequence_name() {
        if (alive_.empty() || pick_.one_in(50)) return nobody;
        if (!ended_.empty() && pick_.one_in(30)) return pick_.of(ended_);
        std::string name = pick_.of(alive_);
        for (int tries = 0; tries < 4 && !is_idle(name); ++tries)
            name = pick_.of(alive_);
        return name;
    }
    int64_t layer() { return pick_.one_in(50) ? pick_.of<int64_t>({-1, 99}) : pick_.below(replay_->shapes().options.layers); }
    int64_t head() { return pick_.one_in(50) ? pick_.of<int64_t>({-1, 99}) : pick_.below(replay_->shapes().options.kv_heads); }
    int64_t seed() { return pick_.below(1000); }

    Operation& set_ranges(Operation& made) {
        const int64_t layers = replay_->shapes().options.layers;
        if (pick_.one_in(4)) made.set("layers", std::to_string(layers - 1) + ":" + std::to_string(layers));
        if (pick_.one_in(4)) made.set("heads", "0:1");
        if (pick_.one_in(40)) made.set("layers", pick_.of<std::string>({"1:1", "0:9", "-1:1"}));
        return made;
    }

    void operation() {
        const int64_t choice = pick_.below(100);
        if (alive_.empty() || choice < 6) return new_sequence();
        if (!open_steps_.empty() && pick_.one_in(3)) return loose_step_operation();
        if (choice < 40) return feed();
        if (choice < 43) return loose_step_operation();
        if (choice < 50) return cut();
        if (choice < 57) return evict();
        if (choice < 62) return merge();
        if (choice < (has_ladder() ? 69 : 63)) return step_down();
        if (choice < 74) return snapshot();
        if (choice < 80) return prefix();
        if (choice < 82) return destroy();
        if (choice < 84) return settings();
        observe();
    }

    // ---- Sequences ----

    void new_sequence() {
        const std::string name = fresh("s");
        Operation made = line("seq", {name});
        made.set("data", seed());
        if (pick_.one_in(3)) made.set("first_position", pick_.of<int64_t>({1, 100, 16777215, int64_t{1} << 40}));
        if (pick_.one_in(40)) made.set("first_position", pick_.of<int64_t>({-1, (int64_t{1} << 53) + 1}));
        if (policy().find('%') != std::string::npos || pick_.one_in(2)) made.set("prompt_length", pick_.between(300, 600));
        if (pick_.one_in(30)) made.set("prompt_length", pick_.between(-1, 0));
        if (add(made))
            alive_.push_back(name);
        else
            ++refused_;
    }

    void cut() {
        const std::string from = sequence_name();
        const bool fork = pick_.one_in(2);
        const std::string name = fresh("s");
        Operation made = fork ? line("fork", {name, from}) : line("truncate", {from});
        const int64_t end = length_of(from), floor = floor_of(from), first = replay_->first_position(from);
        const bool edge = pick_.one_in(4);
        made.set("length",
                 edge ? pick_.of<int64_t>({floor - 1, floor, end, end + 1, first, -1}) : pick_.between(std::min(floor, end), end));
        if (pick_.one_in(4)) made.set("cut", "inexact").set("length", pick_.between(std::min(first, end), end));
        if (fork && pick_.one_in(3)) made.set("data", seed());
        if (add(made) && fork) alive_.push_back(name);
    }

    void destroy() {
        const std::string name = sequence_name();
        if (!add(line("destroy", {name}))) return;
        std::erase(alive_, name);
        ended_.push_back(name);
    }

    void settings() {
        const int64_t choice = pick_.below(2);
        if (choice == 0) {
            const std::string name = sequence_name();
            add(line("prompt", {name}).set("end", pick_.one_in(10) ? -1 : length_of(name) + pick_.between(0, 200)));
            return;
        }
        Operation made = line("sink_logits");
        made.set("layer", layer()).set("seed", seed());
        if (pick_.one_in(4)) made.set("n", pick_.of<int64_t>({0, 1000}));
        add(made);
    }

    // ---- Steps ----

    // Up to a prompt's length in as many steps as the boundaries ask for, or one step over several sequences.
    void feed() {
        const std::string name = sequence_name();
        const int64_t have = tokens_of(name);
        if (have > 150 || pick_.one_in(3)) return step_over_some();
        const int64_t want = pick_.of<int64_t>({70, 130, 200, 260, most_tokens});
        for (int64_t steps = 0; steps < 5 && tokens_of(name) < want; ++steps) {
            const std::string step = fresh("t");
            Operation made = line("begin", {step});
            made.counts.emplace_back(name, std::min(limit_of(name), want - tokens_of(name)));
            if (!add(options(made))) return;
            open_steps_.push_back(step);
            if (!run_layers(step, 3) || !add(line("commit", {step}))) return;
            std::erase(open_steps_, step);
        }
    }

    void step_over_some() {
        const std::string step = fresh("t");
        Operation made = line("begin", {step});
        std::vector<std::string> names;
        for (int64_t n = pick_.between(1, 3); n > 0; --n) {
            const std::string name = sequence_name();
            if (std::find(names.begin(), names.end(), name) == names.end() || pick_.one_in(20)) names.push_back(name);
        }
        for (const std::string& name : names)
            made.counts.emplace_back(name, token_count(name));
        if (!add(options(made))) return;
        open_steps_.push_back(step);
        if (made.has("partial_commit")) partial_.insert(step);
        if (!run_layers(step, 1) || pick_.one_in(10)) return;
        finish(step);
    }

    int64_t token_count(const std::string& name) {
        const int64_t limit = limit_of(name);
        if (pick_.one_in(60)) return limit < 1000 ? limit + 1 : -1;
        if (tokens_of(name) > most_tokens) return pick_.below(2);
        return std::min(limit, pick_.one_in(3) ? pick_.of<int64_t>({0, 63, 64}) : pick_.one_in(2) ? 1 : pick_.between(2, 40));
    }

    Operation& options(Operation& made) {
        static const std::vector<std::string> patient = {"", "streaming", "key_norm", "key_diversity", "given"};
        const bool partial = std::find(patient.begin(), patient.end(), policy().substr(0, policy().find(':'))) != patient.end();
        if (pick_.one_in(partial ? 6 : 60)) made.set("partial_commit", 1);
        if (pick_.one_in(made.has("partial_commit") ? 20 : 5)) made.set("accumulate", 1);
        if (pick_.one_in(8)) made.set("strict", 1);
        if (pick_.one_in(4)) made.set("guard", 1);
        if (pick_.one_in(60)) made.set("position_error", 1);
        if (pick_.one_in(3)) made.set("kv", pick_.of<std::string>({"f16", "bf16"}));
        if (pick_.one_in(3)) made.set("q", pick_.of<std::string>({"f16", "bf16"}));
        if (pick_.one_in(3)) made.set("out", pick_.of<std::string>({"f16", "bf16"}));
        if (replay_->shapes().uniform() && pick_.one_in(5)) made.set("padding", pick_.between(1, 9));
        return made;
    }

    // Append and attend, layer by layer; what cannot be stored is told once and then replaced. Every n-th layer is attended to.
    bool run_layers(const std::string& step, int64_t n) {
        for (int64_t l = 0; l < replay_->shapes().options.layers; ++l) {
            bool appended = append(step, l, false);
            if (!appended) appended = append(step, l, true);
            if (!appended) return false;
            if (pick_.one_in(n) || l + 1 == replay_->shapes().options.layers) attend(step, pick_.one_in(12) ? layer() : l);
        }
        return true;
    }

    bool append(const std::string& step, int64_t layer, bool plain) {
        Operation made = line("append", {step});
        made.set("layer", layer).set("seed", seed());
        if (!plain && pick_.one_in(4))
            made.set("kind", pick_.of<std::string>({"constant", "zero", "outlier", "tiny", "extreme", "sharp"}));
        if (!plain && pick_.one_in(25)) made.set("kind", pick_.of<std::string>({"nan", "inf", "huge"}));
        return add(made);
    }

    void attend(const std::string& step, int64_t layer) {
        Operation made = line("attend", {step});
        made.set("layer", layer).set("seed", seed());
        // Not nan and inf: rows of NaN have no sign that a digest could rest on.
        if (pick_.one_in(4)) made.set("kind", pick_.of<std::string>({"sharp", "zero", "constant"}));
        if (pick_.one_in(5)) made.set("scale", pick_.of<std::string>({"0.5", "0.03125", "-0.25"}));
        if (pick_.one_in(5)) made.set("soft_cap", pick_.of<std::string>({"0.5", "30"}));
        if (pick_.one_in(5)) made.set("sliding_window", pick_.of<int64_t>({1, 16}));
        if (pick_.one_in(6)) made.set("causal_offset", pick_.of<int64_t>({-1, -64, -10000}));
        if (pick_.one_in(80)) made.set("soft_cap", "-1");
        if (pick_.one_in(80)) made.set("sliding_window", pick_.of<int64_t>({-2, -1, 100}));
        if (pick_.one_in(80)) made.set("causal_offset", 1);
        if (pick_.one_in(5)) made.set("partial", 1);
        if (pick_.one_in(5)) made.set("lse", 0);
        add(made);
    }

    void finish(const std::string& step) {
        Operation made = line(pick_.one_in(8) ? "abort" : "commit", {step});
        const StepRecord& record = replay_->step(step);
        if (made.verb == "commit" && pick_.one_in(partial_.count(step) > 0 ? 2 : 60))
            for (size_t i = 0; i < record.sequences.size(); ++i)
                made.counts.emplace_back(record.sequences[i],
                                         pick_.one_in(30) ? -1 : pick_.between(0, std::max<int64_t>(0, record.counts[i])));
        if (add(made)) std::erase(open_steps_, step);
    }

    void loose_step_operation() {
        const std::string step = open_steps_.empty() || pick_.one_in(30) ? "ended" : pick_.of(open_steps_);
        const int64_t choice = pick_.below(5);
        if (choice == 0) return static_cast<void>(append(step, layer(), false));
        if (choice == 1) return attend(step, layer());
        finish(step);
    }

    // ---- What leaves, joins and goes down ----

    void evict() {
        const std::string name = sequence_name();
        const int64_t tokens = tokens_of(name), first = replay_->first_position(name);
        Operation made = line(pick_.one_in(4) ? "keep" : "evict", {name});
        if (made.verb == "evict") {
            const bool by_policy = pick_.one_in(policy().empty() ? 20 : 2);
            const int64_t least = pick_.one_in(4) ? 1 : std::min(tokens, window() + 70);
            made.set("budget", by_policy ? 0 : pick_.one_in(30) ? -1 : pick_.between(least, std::max<int64_t>(1, tokens)));
            if (tokens > 0 && pick_.one_in(3)) made.set("scores", seed());
            if (pick_.one_in(3)) made.set("recent", pick_.one_in(20) ? -1 : pick_.between(0, 100));
        } else {
            std::string positions;
            for (int64_t j = 0; j < tokens; j += pick_.between(1, 12))
                positions += (positions.empty() ? "" : ",") + std::to_string(first + j);
            if (pick_.one_in(15)) positions += (positions.empty() ? "" : ",") + std::to_string(first + (pick_.one_in(2) ? tokens : 0));
            made.set("positions", positions);
        }
        add(set_ranges(made));
    }

    void merge() {
        Operation made = line("merge", {sequence_name()});
        made.set("seed", seed());
        if (!pick_.one_in(8)) made.set("first", 8).set("recent", window() + 64);
        if (pick_.one_in(3)) made.set("values_only", 1);
        if (pick_.one_in(4)) made.set("unbiased", 1);
        add(set_ranges(made));
    }

    void step_down() {
        const std::string name = sequence_name();
        Operation made = line("step_down", {name});
        if (pick_.one_in(2)) made.set("rung", pick_.one_in(10) ? pick_.of<int64_t>({-1, 9}) : pick_.between(1, 3));
        if (pick_.one_in(3)) made.set("recent", pick_.one_in(20) ? -1 : pick_.between(0, 200));
        if (pick_.one_in(3)) {
            made.set("budget_bytes", pick_.one_in(20) ? -1 : record_bytes_of(name) * pick_.between(4, 10) / 10);
        }
        if (pick_.one_in(4)) made.set("layers", pick_.one_in(8) ? "1:1" : "0:1");
        add(made);
    }

    // ---- Snapshots ----

    void snapshot() {
        if (exported_.empty() || pick_.one_in(3)) return export_some();
        const Exported from = pick_.of(exported_);
        Operation made = line("import", {from.name});
        const bool nothing = pick_.one_in(15);
        if (nothing) made.names[0] = "nowhere";
        if (pick_.one_in(4)) made.set("flip", pick_.below(1 << 20));
        for (int64_t i = 0; i < from.sequences; ++i)
            made.names.push_back(fresh("s"));
        made.set("data", seed());
        if (from.first_position != 0) made.set("first_position", from.first_position);
        if (!add(made)) return;
        alive_.insert(alive_.end(), made.names.begin() + 1, made.names.end());
    }

    // Only sequences that begin at the same position, which the import says of all of them.
    void export_some() {
        const std::string name = fresh("x"), first = sequence_name();
        Operation made = line("export", {name, first});
        const auto alike = [&](const std::string& other) { return replay_->first_position(other) == replay_->first_position(first); };
        const bool all = alive_.size() < 4 && std::all_of(alive_.begin(), alive_.end(), alike) && pick_.one_in(2);
        if (all) made.names.pop_back();
        const std::string second = sequence_name();
        if (!all && alike(second) && pick_.one_in(2) && (second != first || pick_.one_in(10))) made.names.push_back(second);
        const auto sequences = static_cast<int64_t>(all ? alive_.size() : made.names.size() - 1);
        if (add(made)) exported_.push_back({name, sequences, replay_->first_position(first)});
    }

    // ---- Prefixes and what is seen ----

    Operation& text(Operation& made, int64_t n) {
        made.set("n", n).set("text", pick_.below(2)).set("other", pick_.between(1, 2));
        if (pick_.one_in(2)) made.set("turn", pick_.between(0, n));
        if (pick_.one_in(4)) made.set("salt", "s");
        return made;
    }

    // Mostly where it can be: behind some number of sinks, in whole pages.
    void seal(Operation& made, int64_t tokens) {
        made.set("seal", 1);
        if (!pick_.one_in(8)) made.set("n", pick_.of(std::vector<int64_t>{0, 4, 4, 4}) + tokens / 64 * 64);
    }

    void prefix() {
        const int64_t choice = pick_.below(20);
        if (choice == 0) return static_cast<void>(add(line("prefix_clear")));
        if (choice == 1) return static_cast<void>(add(line("prefix_stats")));
        if (choice == 2)
            return static_cast<void>(add(line("prefix_budget").set("bytes", pick_.one_in(5) ? -1 : pick_.between(0, 1 << 17))));
        Operation made = line("unpublish");
        if (choice == 3) return static_cast<void>(add(text(made, pick_.between(0, 80))));
        const std::string source = sequence_name();
        const int64_t tokens = tokens_of(source);
        if (choice < 12) {
            made = line("publish", {source});
            text(made, pick_.one_in(4) ? std::max<int64_t>(0, floor_of(source) - replay_->first_position(source)) : tokens);
            if (tokens == 0 && !pick_.one_in(8)) made.set("n", 5);
            if (pick_.one_in(6)) made.set("pinned", 1);
            if (pick_.one_in(4)) seal(made, tokens);
            return static_cast<void>(add(made));
        }
        const std::string name = fresh("s");
        made = line("lookup", {name});
        text(made, pick_.one_in(2) ? tokens + pick_.between(0, 2) : pick_.between(1, 200)).set("data", seed());
        if (replay_->first_position(source) != 0 && !pick_.one_in(10)) made.set("first_position", replay_->first_position(source));
        if (add(made)) alive_.push_back(name);
    }

    void observe() {
        static const std::vector<std::string> verbs = {"read",  "read", "codes",  "mass",  "positions", "counts", "rungs",
                                                       "rungs", "live", "length", "floor", "stats",     "stats",  "plan"};
        Operation made = line(pick_.of(verbs));
        if (made.verb == "plan") {
            made.set("tokens", pick_.one_in(20) ? 0 : pick_.between(1, 3000)).set("sequences", pick_.between(0, 4));
            if (pick_.one_in(3)) made.set("budget_bytes", pick_.between(1, 1 << 24));
            if (pick_.one_in(3)) made.set("step_tokens", pick_.between(1, 700));
            return static_cast<void>(add(made));
        }
        if (made.verb != "stats" || pick_.one_in(2)) made.names.push_back(sequence_name());
        const bool of_head = made.verb != "stats" && made.verb != "length" && made.verb != "floor";
        if (of_head) made.set("layer", layer()).set("head", head());
        if (made.verb == "read" || made.verb == "codes") made.set("part", pick_.one_in(2) ? "keys" : "values");
        if (made.verb == "read" && pick_.one_in(4)) made.set("first", pick_.between(0, 70)).set("n", pick_.between(0, 70));
        add(made);
    }

    uint64_t seed_;
    int64_t operations_;
    Choices pick_;
    Script script_;
    int64_t names_ = 0;
    std::vector<std::string> alive_, ended_, open_steps_;
    std::set<std::string> partial_;  // steps that may be committed in part
    int64_t refused_ = 0;            // sequences
    struct Exported {
        std::string name;
        int64_t sequences, first_position;
    };
    std::vector<Exported> exported_;
};

}  // namespace

Script generate_all(uint64_t seed, int64_t operations) { return AllGenerator(seed, operations).make(); }

Script record(Script script, const RunOptions& options) {
    Replay replay(options);
    for (Operation& operation : script)
        answer(replay, operation);
    return script;
}

}  // namespace kvc_scripts
