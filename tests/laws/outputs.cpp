// Law: outputs are the same bits for any threads, neighbours and cuts within one kernel class; the class is declared, not derived.
#include <algorithm>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=6 k_dim=64 codec=";

Bytes outputs_of(const std::string& create, int64_t tokens, int64_t chunk, const std::string& begin, const std::string& seq,
                 const kvc_scripts::RunOptions& options) {
    Session session(create, options);
    session.ok("seq a data=3 " + seq);
    return session.feed("a", tokens, chunk, begin);
}

}  // namespace

TEST_CASE("outputs: strict gives the same bits under any cut, on every target") {
    for (const std::string& target : targets())
        for (const std::string& preset : presets()) {
            CAPTURE(target);
            CAPTURE(preset);
            const std::string create = shape + short_window(preset, 5, 3);
            const Bytes at_once = outputs_of(create, 140, 140, "strict=1", "prompt_length=1000", {target, 0});
            for (int64_t chunk : {1, 13, 64})
                CHECK_MESSAGE(outputs_of(create, 140, chunk, "strict=1", "prompt_length=1000", {target, 0}) == at_once,
                              "chunk " << chunk);
        }
}

TEST_CASE("outputs: the class is declared per sequence, so a chunked prompt gives the bits of a whole one") {
    for (const std::string& target : targets())
        for (const std::string& preset : {std::string("fp16"), std::string("int8"), std::string("int4"), std::string("kivi2")}) {
            CAPTURE(target);
            CAPTURE(preset);
            const std::string create = shape + short_window(preset, 5, 3);
            const Bytes prompt = outputs_of(create, 150, 150, "", "prompt_length=150", {target, 0});
            for (int64_t chunk : {1, 37, 64})
                CHECK_MESSAGE(outputs_of(create, 150, chunk, "", "prompt_length=150", {target, 0}) == prompt, "chunk " << chunk);
            const Bytes half = outputs_of(create, 150, 150, "", "prompt_length=70", {target, 0});
            CHECK_MESSAGE(outputs_of(create, 150, 50, "", "prompt_length=70", {target, 0}) == half, "a prompt that ends in a step");
            const Bytes decode = outputs_of(create, 150, 150, "", "", {target, 0});
            CHECK_MESSAGE(outputs_of(create, 150, 1, "", "", {target, 0}) == decode, "no prompt: the decode class throughout");
            CHECK_MESSAGE(outputs_of(create, 150, 150, "strict=1", "prompt_length=150", {target, 0}) == decode, "strict forces it");
        }
}

TEST_CASE("outputs: threads change no bit, mass included") {
    for (const std::string& target : targets())
        for (const char* begin : {"accumulate=1", "accumulate=1 strict=1"}) {
            CAPTURE(target);
            const std::string create = shape + short_window("int4", 5, 3);
            Session alone(create, {target, 0});
            alone.ok("seq a data=3 prompt_length=100");
            const Bytes expected = alone.feed("a", 200, 50, begin);
            const Bytes stored = alone.stored("a");
            for (int64_t threads : {1, 2, 5}) {
                Session session(create, {target, threads});
                session.ok("seq a data=3 prompt_length=100");
                CHECK(session.feed("a", 200, 50, begin) == expected);
                CHECK(session.stored("a") == stored);
            }
        }
}

TEST_CASE("outputs: neighbours in the batch change no bit") {
    for (const std::string& target : targets()) {
        CAPTURE(target);
        const std::string create = " kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window("int4", 5, 3);
        Session alone(create, {target, 2}), crowd(create, {target, 2});
        for (Session* session : {&alone, &crowd})
            for (const char* name : {"a", "b", "c"})
                session->ok(std::string("seq ") + name + " data=" + std::to_string(name[0]) + " prompt_length=90");
        alone.step("a:80");
        crowd.step("b:17 a:80 c:64");
        const Bytes mine = alone.step("a:30"), all = crowd.step("c:1 a:30");
        // One layer: rows of c, then of a, outputs before log-sum-exps.
        const size_t row = 4 * 64 * sizeof(float), lse = 4 * sizeof(float);
        REQUIRE(mine.size() == 30 * (row + lse));
        REQUIRE(all.size() == 31 * (row + lse));
        CHECK(std::equal(mine.begin(), mine.begin() + static_cast<long>(30 * row), all.begin() + static_cast<long>(row)));
        CHECK(std::equal(mine.begin() + static_cast<long>(30 * row), mine.end(), all.begin() + static_cast<long>(31 * row + lse)));
    }
}

TEST_CASE("outputs: several attends of a layer give the same bits, and so does a layer that shares another's cache") {
    Session session(" layers=2 kv_heads=1 q_heads=2 k_dim=32 codec=int4");
    session.ok("seq a");
    session.ok("begin t a:70");
    session.ok("append t layer=0 seed=1");
    const Bytes first = session.ok("attend t layer=0 seed=5").bytes;
    session.ok("append t layer=1 seed=1");
    CHECK(session.ok("attend t layer=0 seed=5").bytes == first);
    session.ok("commit t");
}

TEST_CASE("outputs: AVX-512 gives the same bits with VNNI and without") {
    const std::vector<std::string> all = targets();
    if (std::find(all.begin(), all.end(), "avx512vnni") == all.end()) {
        MESSAGE("this machine has no VNNI");
        return;
    }
    for (const std::string& preset : presets())
        for (const char* prompt : {"", "prompt_length=200"}) {
            CAPTURE(preset);
            const std::string create = shape + short_window(preset, 5, 3);
            CHECK(outputs_of(create, 200, 50, "", prompt, {"avx512vnni", 0}) == outputs_of(create, 200, 50, "", prompt, {"avx512", 0}));
        }
}
