#include "tests/model/generate.h"

#include <algorithm>
#include <string>

#include "tests/model/model_run.h"

namespace kvc_scripts {
namespace {

using kvc_reference::Choices;
using kvc_reference::SequenceState;

const std::vector<std::string> key_codecs = {
    "int8.ch.g32.m8", "int4.ch.g32.m8", "int3.ch.g32.m8",   "int2.ch.g32.m8.clip0.9", "int4.ch.g32",
    "int2.ch.g32",    "int4.ch.g64.m8", "int8.tok.rot.sym", "int4.tok.rot.ls",        "f16"};
const std::vector<std::string> value_codecs = {"int8.tok.rot.sym", "int4.tok.rot.ls", "int3.tok.rot.ls", "int2.tok.rot.ls",
                                               "int4.tok.g32",     "int2.tok.g32",    "int4.tok",        "f16"};

std::vector<std::string> names_of_presets() {
    std::vector<std::string> names;
    for (const kvc_reference::DocumentedPreset& preset : kvc_reference::documented_presets())
        names.push_back(preset.name);
    return names;
}
const std::vector<std::string> presets = names_of_presets();

class Generator {
public:
    Generator(uint64_t seed, const GenerateOptions& options) : pick_(seed), options_(options), run_(false) {}

    Script make() {
        create();
        while (static_cast<int64_t>(script_.size()) < options_.operations)
            operation();
        return script_;
    }

private:
    // Adds a line, with what the model expects of it.
    void add(Operation line) {
        const Verdict verdict = run_.apply(line, nullptr);
        const bool may_exhaust = ModelRun::may_exhaust(line.verb);
        if (verdict.status != KVC_OK) line.expected = status_word(verdict.status);
        if (verdict.status == KVC_OK && tight_ && may_exhaust) line.expected = "ok|no_memory";
        script_.push_back(std::move(line));
    }

    static Operation line(const std::string& verb, std::vector<std::string> names = {}) {
        Operation made;
        made.verb = verb, made.names = std::move(names);
        return made;
    }

    std::string codec() {
        if (options_.large || pick_.one_in(6)) return pick_.of(presets);  // whose keys are not rotated
        const std::string tail = ",window=" + std::to_string(pick_.of<int64_t>({0, 1, 5, 32, 63, 64, 65, 100})) +
                                 ",sinks=" + std::to_string(pick_.of<int64_t>({0, 1, 4, 7}));
        std::string keys = pick_.of(key_codecs);
        while (keys_before_ && keys.find(".rot") != std::string::npos)
            keys = pick_.of(key_codecs);  // keys before RoPE do not go with rotated ones
        return "k=" + keys + ",v=" + pick_.of(value_codecs) + tail;
    }

    int64_t dim() {
        return options_.large ? pick_.of<int64_t>({64, 80, 96, 112, 128, 256}) : pick_.of<int64_t>({32, 32, 64, 64, 96, 128});
    }

    // RoPE inside the cache: keys before it, in-cache positions, or both.
    void rope(Operation& made) {
        made.set("rope_theta", pick_.of<std::string>({"10000", "500000", "10"}));
        keys_before_ = pick_.one_in(2);
        if (keys_before_) made.set("keys", "before").set("codec", codec());
        if (!keys_before_ || pick_.one_in(2)) made.set("positions", "in_cache");
        if (pick_.one_in(3)) made.set("pairs", "interleaved");
        if (pick_.one_in(3)) made.set("rope_dims", pick_.of<int64_t>({2, 16, 32}));
    }

    void create() {
        Operation made = line("create");
        const int64_t layers = pick_.between(1, 3), kv_heads = pick_.between(1, 2), group = pick_.of<int64_t>({1, 1, 2, 3, 8, 16});
        made.set("layers", layers)
            .set("kv_heads", kv_heads)
            .set("q_heads", kv_heads * (options_.large ? std::min<int64_t>(group, 3) : group));
        made.set("k_dim", dim()).set("codec", codec());
        // KIVI's groups of 32 channels divide these; what they do not divide is refused at creation, and a script would end there.
        if (options_.large)
            made.set("v_dim", pick_.of<int64_t>({64, 96, 128, 256}));
        else if (pick_.one_in(3))
            made.set("v_dim", dim());
        if (pick_.one_in(4)) made.set("spare_pages", pick_.between(1, 2));
        if (pick_.one_in(8)) made.set("saturate", 1);
        if (pick_.one_in(5)) made.set("sliding_window", pick_.of<int64_t>({1, 17, 64, 130}));
        if (pick_.one_in(3)) rope(made);
        tight_ = pick_.one_in(5);
        if (tight_)
            made.set("arena_tokens", pick_.between(64, 400)).set("arena_sequences", pick_.between(1, 3));
        else
            made.set("growth", 1).set("arena_tokens", 512);
        if (pick_.one_in(4)) {
            Operation special = line("layer", {std::to_string(layers - 1)});
            special.set("codec", codec());
            if (pick_.one_in(2)) special.set("sliding_window", pick_.of<int64_t>({33, 100}));
            add(special);
        }
        add(made);
    }

    // Mostly one that can be used: sequences in open steps answer busy to nearly everything.
    std::string sequence_name() {
        if (sequences_.empty() || pick_.one_in(40)) return "nobody";
        std::string name = pick_.of(sequences_);
        for (int tries = 0; tries < 4 && run_.sequence(name) && run_.sequence(name)->busy; ++tries)
            name = pick_.of(sequences_);
        return name;
    }
    std::string step_name() { return open_steps_.empty() || pick_.one_in(30) ? "ended" : pick_.of(open_steps_); }

    int64_t layer() { return pick_.one_in(40) ? pick_.of<int64_t>({-1, 99}) : pick_.below(run_.shapes().options.layers); }
    int64_t head() { return pick_.one_in(40) ? 99 : pick_.below(run_.shapes().options.kv_heads); }
    int64_t seed() { return pick_.below(1000); }
    std::string kind() {
        if (pick_.one_in(25)) return pick_.of<std::string>({"nan", "inf", "huge"});
        return pick_.one_in(3) ? pick_.of<std::string>({"constant", "zero", "outlier", "tiny", "extreme", "sharp"}) : "normal";
    }

    void operation() {
        const int64_t choice = pick_.below(100);
        if (sequences_.empty() || choice < 6) return new_sequence();
        std::erase_if(open_steps_, [&](const std::string& step) { return !run_.open_step(step); });
        if (!open_steps_.empty() && pick_.one_in(3)) return loose_step_operation();
        if (choice < 50) return whole_step();
        if (choice < 56) return loose_step_operation();
        if (choice < 64) return cut();
        if (choice < 72) return evict();
        if (choice < 74) return destroy();
        if (choice < 76) return settings();
        if (choice < 84 && !tight_) return prefix();
        observe();
    }

    void new_sequence() {
        const std::string name = "s" + std::to_string(++names_);
        Operation made = line("seq", {name});
        made.set("data", seed());
        if (pick_.one_in(3)) made.set("first_position", pick_.of<int64_t>({1, 100, 16777215, int64_t{1} << 40}));
        if (pick_.one_in(3)) made.set("prompt_length", pick_.between(0, 200));
        add(made);
        sequences_.push_back(name);
    }

    int64_t token_count() {
        if (pick_.one_in(8)) return 0;
        if (pick_.one_in(3)) return 1;
        if (pick_.one_in(3)) return pick_.of<int64_t>({63, 64, 65, 128});
        return pick_.between(2, options_.large ? 250 : 90);
    }

    // Begins a step over some sequences; false if it was refused.
    bool begin(const std::string& step) {
        Operation made = line("begin", {step});
        std::vector<std::string> names;
        for (int64_t n = pick_.between(1, 3); n > 0; --n) {
            const std::string name = sequence_name();
            if (std::find(names.begin(), names.end(), name) == names.end() || pick_.one_in(20)) names.push_back(name);
        }
        for (const std::string& name : names)
            made.counts.emplace_back(name, pick_.one_in(60) ? -1 : token_count());
        if (pick_.one_in(4)) made.set("partial_commit", 1);
        if (pick_.one_in(4)) made.set("accumulate", 1);
        if (pick_.one_in(5)) made.set("strict", 1);
        if (pick_.one_in(3)) made.set("guard", 1);
        if (pick_.one_in(40)) made.set("position_error", 1);
        if (pick_.one_in(3)) made.set("kv", pick_.of<std::string>({"f16", "bf16"}));
        if (pick_.one_in(3)) made.set("q", pick_.of<std::string>({"f16", "bf16"}));
        if (pick_.one_in(3)) made.set("out", pick_.of<std::string>({"f16", "bf16"}));
        if (run_.shapes().uniform() && pick_.one_in(4)) made.set("padding", pick_.between(1, 9));
        add(made);
        return run_.open_step(step) != nullptr;
    }

    void append(const std::string& step, int64_t layer) {
        Operation made = line("append", {step});
        add(made.set("layer", layer).set("seed", seed()).set("kind", kind()));
    }

    void attend(const std::string& step, int64_t layer) {
        Operation made = line("attend", {step});
        made.set("layer", layer).set("seed", seed());
        if (pick_.one_in(3)) made.set("kind", pick_.of<std::string>({"sharp", "sharp", "zero", "constant"}));
        if (pick_.one_in(5)) made.set("scale", pick_.of<std::string>({"0.5", "0.03125"}));
        if (pick_.one_in(5)) made.set("soft_cap", pick_.of<std::string>({"0.5", "30", "-1"}));
        if (pick_.one_in(5)) made.set("sliding_window", pick_.of<int64_t>({-1, 1, 16, 64, 100}));
        if (pick_.one_in(6)) made.set("causal_offset", pick_.of<int64_t>({-1, -64, -10000, 1}));
        if (pick_.one_in(5)) made.set("partial", 1);
        if (pick_.one_in(5)) made.set("lse", 0);
        add(made);
    }

    // A step as a model runs it: append and attend layer by layer, then commit or abort.
    void whole_step() {
        const std::string step = "t" + std::to_string(++names_);
        if (!begin(step)) return;
        const int64_t layers = run_.shapes().options.layers;
        for (int64_t l = 0; l < layers; ++l) {
            while (!run_.model()->find_step(run_.step_id(step))->appended[l]) {
                append(step, l);
                if (pick_.one_in(20)) break;
            }
            if (!pick_.one_in(4)) attend(step, pick_.one_in(10) ? layer() : l);
        }
        if (pick_.one_in(8)) return open_steps_.push_back(step);
        finish(step);
    }

    void finish(const std::string& step) {
        Operation made = line(pick_.one_in(6) ? "abort" : "commit", {step});
        const StepRecord* record = run_.open_step(step);
        if (record && made.verb == "commit" && run_.model()->find_step(run_.step_id(step))->partial_commit && !pick_.one_in(4))
            for (size_t i = 0; i < record->sequences.size(); ++i)
                made.counts.emplace_back(record->sequences[i], pick_.between(0, record->counts[i] + (pick_.one_in(30) ? 1 : 0)));
        add(made);
        if (run_.open_step(step)) open_steps_.push_back(step);
    }

    void loose_step_operation() {
        const std::string step = step_name();
        const int64_t choice = pick_.below(4);
        if (choice == 0) return append(step, layer());
        if (choice == 1) return attend(step, layer());
        finish(step);
    }

    // A length on one side or the other of the exact floor.
    int64_t length_of(const std::string& name) {
        const SequenceState* s = run_.sequence(name);
        if (!s) return 0;
        const int64_t floor = run_.model()->exact_floor(run_.id_of(name)), end = s->first_position + s->length;
        if (pick_.one_in(3)) return pick_.of<int64_t>({floor - 1, floor, floor + 1, end, end + 1, s->first_position});
        return pick_.between(pick_.one_in(4) ? s->first_position : std::min(floor, end), end);
    }

    void cut() {
        const std::string from = sequence_name();
        const bool fork = pick_.one_in(2);
        const std::string made_name = "s" + std::to_string(++names_);
        Operation made = fork ? line("fork", {made_name, from}) : line("truncate", {from});
        made.set("length", length_of(from));
        // In-cache positions have most to say about what a cut below the floor leaves.
        const bool in_cache = run_.shapes().options.positions == KVC_POSITIONS_IN_CACHE;
        if (pick_.one_in(in_cache ? 2 : 5)) made.set("cut", "inexact");
        add(made);
        if (fork && run_.sequence(made_name)) sequences_.push_back(made_name);
    }

    void evict() {
        const std::string name = sequence_name();
        const SequenceState* s = run_.sequence(name);
        const int64_t length = s ? s->length : 0;
        const bool in_cache = run_.shapes().options.positions == KVC_POSITIONS_IN_CACHE;
        Operation made = line(pick_.one_in(in_cache ? 20 : 3) ? "keep" : "evict", {name});
        if (made.verb == "evict") {
            int64_t least = 1;  // what must stay, so that most budgets are allowed
            for (int64_t j = 0; j < length; ++j)
                least += !run_.model()->is_coded(*s, 0, j);
            made.set("budget",
                     pick_.one_in(20) ? 0 : pick_.between(std::min(least, std::max<int64_t>(1, length)), std::max<int64_t>(1, length)));
            // In-cache positions refuse most choices by score.
            if (length > 0 && pick_.one_in(in_cache ? 20 : 2)) made.set("scores", seed());
            if (pick_.one_in(3)) made.set("recent", pick_.one_in(2) ? pick_.between(0, 10) : pick_.between(0, 100));
        } else {
            std::string positions;
            for (int64_t j = 0; j < length; j += pick_.between(1, 6))
                positions += (positions.empty() ? "" : ",") + std::to_string(s->first_position + j);
            if (pick_.one_in(20)) positions += (positions.empty() ? "" : ",") + std::to_string((s ? s->first_position : 0) + length);
            made.set("positions", positions);
        }
        const int64_t layers = run_.shapes().options.layers;
        if (pick_.one_in(4)) made.set("layers", std::to_string(layers - 1) + ":" + std::to_string(layers));
        if (pick_.one_in(4)) made.set("heads", pick_.one_in(10) ? "1:0" : "0:1");
        add(made);
    }

    void destroy() {
        const std::string name = sequence_name();
        add(line("destroy", {name}));
        if (!run_.sequence(name) && !pick_.one_in(5)) std::erase(sequences_, name);
    }

    void settings() {
        if (pick_.one_in(2)) {
            Operation made = line("prompt", {sequence_name()});
            const SequenceState* s = run_.sequence(made.name(0));
            return add(made.set("end", (s ? s->first_position : 0) + pick_.between(0, 300)));
        }
        Operation made = line("sink_logits");
        made.set("layer", layer()).set("seed", seed());
        if (pick_.one_in(4)) made.set("n", pick_.of<int64_t>({0, 1000}));
        add(made);
    }

    // Texts that begin alike: token i is of text 0 or 1, from some index on of another one.
    Operation& text(Operation& made, int64_t n) {
        made.set("n", n).set("text", pick_.below(2)).set("other", pick_.between(1, 2));
        if (pick_.one_in(2)) made.set("turn", pick_.between(0, n));
        if (pick_.one_in(4)) made.set("salt", "s");
        return made;
    }

    void prefix() {
        const int64_t choice = pick_.below(20);
        if (choice == 0) return add(line("prefix_clear"));
        if (choice == 1) return add(line("prefix_stats"));
        if (choice < 4) {
            Operation made = line("unpublish");
            return add(text(made, pick_.between(0, 80)));
        }
        const std::string source = sequence_name();
        const SequenceState* s = run_.sequence(source);
        if (choice < 12) {
            Operation made = line("publish", {source});
            const int64_t n = std::max<int64_t>(0, length_of(source) - (s ? s->first_position : 0));
            text(made, pick_.one_in(2) && s ? s->length : n);
            if (s && pick_.one_in(3)) {
                const int64_t sinks = s->layers[0].origin;
                made.set("seal", 1).set("n", pick_.one_in(6) ? s->length : sinks + std::max<int64_t>(0, s->length - sinks) / 64 * 64);
            }
            return add(made);
        }
        const std::string name = "s" + std::to_string(++names_);
        Operation made = line("lookup", {name});
        text(made, s && pick_.one_in(2) ? s->length + pick_.between(0, 2) : pick_.between(1, 300)).set("data", seed());
        if (s && s->first_position != 0 && !pick_.one_in(10)) made.set("first_position", s->first_position);
        add(made);
        sequences_.push_back(name);
    }

    void observe() {
        static const std::vector<std::string> verbs = {"read", "read",   "read",  "codes", "mass",  "positions",
                                                       "live", "length", "floor", "stats", "stats", "plan"};
        Operation made = line(pick_.of(verbs));
        if (made.verb == "plan") return add(made.set("tokens", pick_.between(1, 3000)).set("sequences", pick_.between(1, 4)));
        if (made.verb != "stats" || pick_.one_in(3)) made.names.push_back(sequence_name());
        const bool of_head = made.verb != "stats" && made.verb != "length" && made.verb != "floor";
        if (of_head) made.set("layer", layer()).set("head", head());
        if (made.verb == "read" || made.verb == "codes") made.set("part", pick_.one_in(2) ? "keys" : "values");
        if (made.verb == "read" && pick_.one_in(4)) made.set("first", pick_.between(0, 70)).set("n", pick_.between(0, 70));
        add(made);
    }

    Choices pick_;
    GenerateOptions options_;
    ModelRun run_;
    Script script_;
    bool tight_ = false, keys_before_ = false;
    int64_t names_ = 0;
    std::vector<std::string> sequences_, open_steps_;
};

}  // namespace

Script generate(uint64_t seed, const GenerateOptions& options) { return Generator(seed, options).make(); }

}  // namespace kvc_scripts
