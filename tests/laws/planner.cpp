// Law: over any shape, the planned arena runs its request, and an arena one byte smaller does not.
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

}  // namespace

TEST_CASE("planner: over random shapes its arena runs the request, and one byte less does not") {
    Shapes shapes(7);
    for (int i = 0; i < 120; ++i) {
        const std::string shape = shapes.shape();
        const Request request = shapes.request();
        CAPTURE(shape);
        CAPTURE(request.line());
        Session planner(shape);
        const std::vector<int64_t> plan = planner.ok(request.line()).numbers;
        const int64_t arena = plan[0], slab = plan[1];
        Session enough(shape + " growth=0 arena_bytes=" + std::to_string(arena));
        CHECK(run(enough, request) == "ok");
        if (arena == slab) continue;  // the smallest arena there is
        Session less(shape + " growth=0 arena_bytes=" + std::to_string(arena - 1));
        CHECK(run(less, request) == "no_memory");
    }
}

TEST_CASE("planner: an arena of the budget runs the longest context and no longer one, the most sequences and no more") {
    Shapes shapes(8);
    for (int i = 0; i < 25; ++i) {
        const std::string shape = shapes.shape();
        const Request request = shapes.request();
        const int64_t budget = (1 + i % 5) * 300'000 * (1 + i % 3);
        CAPTURE(shape);
        CAPTURE(request.line());
        CAPTURE(budget);
        Session planner(shape);
        const std::vector<int64_t> plan = planner.ok(request.line() + " budget_bytes=" + std::to_string(budget)).numbers;
        const auto runs = [&](int64_t tokens, int64_t sequences) {
            Request asked = request;
            asked.tokens = tokens, asked.sequences = sequences;
            Session session(shape + " growth=0 arena_bytes=" + std::to_string(budget));
            return run(session, asked);
        };
        const int64_t tokens = plan[4], sequences = plan[5];
        if (tokens > 5000) continue;  // every layer has a sliding window, or nearly
        if (tokens > 0) CHECK(runs(tokens, request.sequences) == "ok");
        for (int64_t more : {1, 2, 63, 64, 65}) {
            CAPTURE(more);
            CHECK(runs(tokens + more, request.sequences) == "no_memory");
        }
        if (sequences > 0) CHECK(runs(request.tokens, sequences) == "ok");
        CHECK(runs(request.tokens, sequences + 1) == "no_memory");
    }
}
