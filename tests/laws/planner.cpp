// Law: over any shape, the planned arena runs its request at every length up to its tokens, and an arena one byte smaller does not.
#include <algorithm>
#include <kvc.h>
#include <random>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

struct Request {
    int64_t tokens = 1, sequences = 1, step_tokens = 1;
    bool partial_commit = false;

    std::string extra() const { return partial_commit ? " partial_commit=1" : ""; }
    std::string line() const {
        return "plan tokens=" + std::to_string(tokens) + " sequences=" + std::to_string(sequences) +
               " step_tokens=" + std::to_string(step_tokens) + extra();
    }
};

// Small shapes: many ways for record sizes to differ, few bytes to compute.
class Shapes {
public:
    explicit Shapes(uint32_t seed) : random_(seed) {}

    std::string shape() {
        static const std::vector<std::string> codecs = {"fp16", "int8", "int4", "int3", "k3v2", "kivi2"};
        const int64_t layers = between(1, 4);
        std::string text;
        for (int64_t i = 0; i < layers; ++i) {
            text += "layer " + std::to_string(i) + " kv_heads=" + std::to_string(between(1, 5));
            if (between(0, 2) == 0) text += " sliding_window=" + std::to_string(between(1, 200));
            if (between(0, 2) == 0) text += " codec=" + short_window(pick(codecs), between(0, 100), between(0, 8));
            text += "; ";
        }
        return text + "layers=" + std::to_string(layers) + " k_dim=" + std::to_string(32 * between(1, 3)) +
               " codec=" + short_window(pick(codecs), between(0, 150), between(0, 8)) + " spare_pages=" + std::to_string(between(0, 2));
    }

    Request request() {
        Request made;
        made.tokens = between(1, 400), made.sequences = between(1, 3), made.step_tokens = between(1, 300);
        made.partial_commit = between(0, 3) == 0;
        return made;
    }

private:
    int64_t between(int64_t low, int64_t high) { return low + int64_t(random_() % uint64_t(high - low + 1)); }
    const std::string& pick(const std::vector<std::string>& from) { return from[size_t(between(0, int64_t(from.size()) - 1))]; }

    std::mt19937 random_;
};

// Prompts one after another, then all decode together; "ok", or what begin answered.
std::string run(Session& session, const Request& request) {
    std::string all;
    for (int64_t s = 0; s < request.sequences; ++s) {
        const std::string name = "s" + std::to_string(s);
        session.ok("seq " + name);
        all += " " + name + ":1";
        for (int64_t fed = 0; fed < request.tokens - 1; fed += request.step_tokens) {
            const std::string step = name + "_" + std::to_string(fed);
            const int64_t count = std::min(request.step_tokens, request.tokens - 1 - fed);
            const std::string status = session.status("begin " + step + " " + name + ":" + std::to_string(count) + request.extra());
            if (status != "ok") return status;
            for (int64_t l = 0; l < session.replay.shapes().options.layers; ++l)
                session.ok("append " + step + " layer=" + std::to_string(l));
            session.ok("commit " + step);
        }
    }
    return session.status("begin last" + all + request.extra());
}

std::string run_in(const std::string& shape, int64_t arena_bytes, Request request, int64_t tokens) {
    request.tokens = tokens;
    Session session(shape + " growth=0 arena_bytes=" + std::to_string(arena_bytes));
    return run(session, request);
}

// Whether an arena runs the request at all lengths up to its tokens; the longest are tried first, as they mostly need most.
bool runs_all(const std::string& shape, int64_t arena_bytes, const Request& request) {
    for (int64_t tokens = request.tokens; tokens > 0; --tokens)
        if (run_in(shape, arena_bytes, request, tokens) != "ok") return false;
    return true;
}

}  // namespace

TEST_CASE("planner: over random shapes its arena runs the request, shorter ones, too, and one byte less does not") {
    Shapes shapes(7);
    for (int i = 0; i < thinned_walks(120); ++i) {
        const std::string shape = shapes.shape();
        const Request request = shapes.request();
        CAPTURE(shape);
        CAPTURE(request.line());
        Session planner(shape);
        const std::vector<int64_t> plan = planner.ok(request.line()).numbers;
        const int64_t arena = plan[0], slab = plan[1];
        for (int64_t shorter : {0, 1, 7, 63, 64, 65, 130}) {
            CAPTURE(shorter);
            if (shorter < request.tokens) CHECK(run_in(shape, arena, request, request.tokens - shorter) == "ok");
        }
        if (arena == slab) continue;  // the smallest arena there is
        CHECK_FALSE(runs_all(shape, arena - 1, request));
    }
}

TEST_CASE("planner: more tokens never need less, whatever steps, windows, policies and ages cut") {
    Shapes shapes(9);
    const std::vector<std::string> more = {
        "", " policy=streaming:4+100", " policy=h2o:300", " policy=h2o:40%", " policy=tova:260,every=96", " ages"};
    for (int i = 0; i < 3 * int(more.size()); ++i) {
        std::string shape = shapes.shape() + more[size_t(i) % more.size()];
        if (const size_t ages = shape.find(" ages"); ages != std::string::npos)
            shape = "layers=2 kv_heads=2 k_dim=64 codec=int8/int4@600/int2@1100";
        Request request = shapes.request();
        CAPTURE(shape);
        Session planner(shape);
        int64_t before = 0;
        for (request.tokens = 300; request.tokens < 2400; request.tokens += request.tokens < 700 ? 1 : 7) {
            const auto answered = planner.run(request.line());
            if (answered.status == KVC_E_ARGUMENT && before == 0) continue;  // a share below what sinks and window hold
            REQUIRE_MESSAGE(answered.status == KVC_OK, answered.message);
            CAPTURE(request.line());
            REQUIRE(answered.numbers[0] >= before);
            before = answered.numbers[0];
        }
        CHECK(before > 0);  // not all of them were refused
    }
}

TEST_CASE("planner: room for 709 tokens is room for 708") {
    const std::string shape = "layers=30 kv_heads=8 k_dim=128 codec=int4 growth=0 ";
    for (const int64_t tokens : thinned<int64_t>({709, 650, 708})) {
        CAPTURE(tokens);
        Session session(shape + "arena_tokens=709");
        CHECK(run(session, {tokens, 1, 512}) == "ok");
    }
}

TEST_CASE("planner: an arena of the budget runs the longest context and no longer one, the most sequences and no more") {
    Shapes shapes(8);
    for (int i = 0; i < thinned_walks(25); ++i) {
        const std::string shape = shapes.shape();
        Request request = shapes.request();
        const int64_t budget = (1 + i % 5) * 300'000 * (1 + i % 3);
        CAPTURE(shape);
        CAPTURE(request.line());
        CAPTURE(budget);
        Session planner(shape);
        const std::vector<int64_t> plan = planner.ok(request.line() + " budget_bytes=" + std::to_string(budget)).numbers;
        const int64_t tokens = plan[4], sequences = plan[5];
        Request most = request;
        most.sequences = sequences;
        for (int64_t shorter : {0, 1, 64})
            if (sequences > 0 && shorter < request.tokens) CHECK(run_in(shape, budget, most, request.tokens - shorter) == "ok");
        most.sequences++;
        CHECK_FALSE(runs_all(shape, budget, most));
        if (tokens > 5000) continue;  // every layer has a sliding window, or nearly
        for (int64_t shorter : {0, 1, 17, 64, 65})
            if (shorter < tokens) CHECK(run_in(shape, budget, request, tokens - shorter) == "ok");
        request.tokens = tokens + 1;
        CHECK_FALSE(runs_all(shape, budget, request));
    }
}
