// Law: the planned arena runs its request where two kinds of boundaries cut the steps, those of a policy and those of ages.
#include <kvc.h>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

struct Request {
    int64_t tokens = 1, step_tokens = 1, sequences = 1;
    int64_t prompt_length = 0;  // of the sequences that run; 0: not said

    std::string line() const {
        return "plan tokens=" + std::to_string(tokens) + " step_tokens=" + std::to_string(step_tokens) +
               " sequences=" + std::to_string(sequences);
    }
};

// One step; what begin answered.
std::string step(Session& session, const std::string& name, const std::string& counts, bool attends) {
    const std::string status = session.status("begin " + name + " " + counts);
    if (status != "ok") return status + " at " + counts;
    for (int64_t l = 0; l < session.replay.shapes().options.layers; ++l) {
        const std::string words = " " + name + " seed=1 layer=" + std::to_string(l);
        session.ok("append" + words);
        if (attends) session.ok("attend" + words);
    }
    session.ok("commit " + name);
    return status;
}

// Prompts one after another, cut where step_tokens and boundaries say so, then all decode together.
std::string run(Session& session, const Request& request, bool attends) {
    int64_t steps = 0;
    std::string all;
    for (int64_t s = 0; s < request.sequences; ++s) {
        const std::string name = "s" + std::to_string(s);
        session.ok("seq " + name + (request.prompt_length ? " prompt_length=" + std::to_string(request.prompt_length) : ""));
        all += " " + name + ":1";
        for (int64_t left = request.tokens - 1; left > 0;) {
            const int64_t n = std::min({left, request.step_tokens, step_limit(session, name)});
            const std::string status = step(session, "t" + std::to_string(++steps), name + ":" + std::to_string(n), attends);
            if (status != "ok") return status + " of " + std::to_string(request.tokens - left);
            left -= n;
        }
    }
    return step(session, "last", all, attends);
}

void check_runs(const std::string& shape, const Request& request, bool attends) {
    CAPTURE(shape);
    CAPTURE(request.line());
    const int64_t arena = Session(shape).number(request.line());
    for (const int64_t shorter : thinned<int64_t>({0, 1, 63, 100})) {
        if (shorter >= request.tokens) continue;
        CAPTURE(shorter);
        Request made = request;
        made.tokens -= shorter;
        Session session(shape + " growth=0 arena_bytes=" + std::to_string(arena));
        CHECK(run(session, made, attends) == "ok");
    }
}

}  // namespace

TEST_CASE("planner: its arena runs the request whatever the boundaries of a policy and of ages have in common") {
    for (const std::string& codec : thinned<std::string>({"int4", "fp16", "int8/int4@512", "fp16/int8@100/int4@600"}))
        for (const int64_t every : thinned<int64_t>({65, 96, 100, 512, 200}))
            for (const int64_t tokens : thinned<int64_t>({200, 1200, 550})) {
                const std::string shape =
                    "layers=4 kv_heads=4 k_dim=64 codec=" + codec + " policy=key_norm:300,every=" + std::to_string(every);
                check_runs(shape, {tokens, tokens > 300 ? 512 : 100, 1}, false);
            }
}

TEST_CASE(
    "planner: a budget in percent without context_tokens is a share of the length asked about, as of sequences with such prompts") {
    const std::string shape = "layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=int4 policy=h2o:40%";
    const std::string budget = " budget_bytes=600000";
    const auto plan = [&](int64_t context, int64_t tokens) {
        const Request request = {tokens, 100, 1};
        return Session(shape + " context_tokens=" + std::to_string(context)).ok(request.line() + budget).numbers;
    };
    for (const int64_t tokens : {700, 1500}) {
        if (laws_are_thinned() && tokens > 700) continue;
        CAPTURE(tokens);
        const std::vector<int64_t> open = plan(0, tokens), said = plan(tokens, tokens);
        for (const size_t i : {0, 1, 2, 3, 5})
            CHECK(open[i] == said[i]);
        // Each length is judged with the share of its own that it keeps; a context that is said keeps its share at any length.
        const int64_t most = open[4];
        CHECK(plan(most, most)[5] >= 1);
        CHECK(plan(most + 1, most + 1)[5] == 0);
        CHECK(plan(700, tokens)[4] > most);
        // Prompts of that length, and shorter ones that decode up to it, run in that arena.
        for (const int64_t prompt : {tokens, tokens - 1, tokens * 3 / 4}) {
            CAPTURE(prompt);
            Session session(shape + " growth=0 arena_bytes=" + std::to_string(open[0]));
            CHECK(run(session, {tokens, 100, 1, prompt}, true) == "ok");
        }
    }
}

TEST_CASE("planner: likewise for several sequences and a policy that attends") {
    for (int64_t every : {65, 200})
        for (int64_t step_tokens : {33, 100}) {
            const std::string shape = "layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=int8/int4@512 policy=h2o:300,every=";
            check_runs(shape + std::to_string(every), {650, step_tokens, 2}, true);
        }
}

TEST_CASE("planner: more tokens never need less where two kinds of boundaries cut the steps") {
    for (int64_t every : {65, 100, 700}) {
        const std::string shape = "layers=4 kv_heads=4 k_dim=64 codec=int8/int4@512 policy=key_norm:300,every=" + std::to_string(every);
        CAPTURE(shape);
        Session planner(shape);
        int64_t before = 0;
        for (Request request = {1, 100, 1}; request.tokens < 1800; request.tokens += request.tokens < 700 ? 1 : 7) {
            CAPTURE(request.tokens);
            const int64_t arena = planner.number(request.line());
            REQUIRE(arena >= before);
            before = arena;
        }
    }
}
