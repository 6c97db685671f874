// The script language, the generator and the shrinker, without a cache.
#include <algorithm>
#include <string>

#include "doctest/doctest.h"
#include "tests/model/generate.h"
#include "tests/model/model_run.h"
#include "tests/model/shrink.h"

using namespace kvc_scripts;

TEST_CASE("scripts: what is printed is parsed again") {
    const std::string text =
        "create codec=int4 layers=2\nseq a data=7\nbegin t a:5 partial_commit=1 -> ok|no_memory\nlayer 1 codec=fp16\n";
    CHECK(print(parse(text)) == text);
    for (uint64_t seed = 0; seed < 20; ++seed) {
        const Script script = generate(seed, {});
        CHECK(print(parse(print(script))) == print(script));
    }
}

TEST_CASE("scripts: comments and blank lines are no operations, and faults name their line") {
    CHECK(parse("# nothing\n\n  seq a   # and a comment\n").size() == 1);
    CHECK_THROWS_WITH(parse("seq a\nbegin t a:x\n"), "line 2: \"x\" is no number");
    CHECK_THROWS_WITH(parse("seq a ->\n"), "line 1: a status is missing after ->");
    CHECK_THROWS(parse("seq a -> ok more\n"));
}

TEST_CASE("scripts: expected statuses") {
    CHECK(is_expected("", KVC_OK));
    CHECK(is_expected("ok|no_memory", KVC_E_NO_MEMORY));
    CHECK_FALSE(is_expected("ok|no_memory", KVC_E_RANGE));
    CHECK(status_word(KVC_E_NO_MEMORY) == "no_memory");
}

TEST_CASE("generate: equal seeds give equal scripts, and both valid and refused operations occur") {
    CHECK(print(generate(5, {})) == print(generate(5, {})));
    CHECK(print(generate(5, {})) != print(generate(6, {})));
    size_t refused = 0, operations = 0;
    for (uint64_t seed = 0; seed < 50; ++seed)
        for (const Operation& operation : generate(seed, {}))
            operations += 1, refused += !operation.expected.empty() && operation.expected.rfind("ok", 0) != 0;
    CHECK(refused > operations / 50);
    CHECK(refused < operations / 3);
}

TEST_CASE("shrink: keeps what fails and removes the rest") {
    const Script script = generate(3, {});
    const Fails has_attend = [](const Script& candidate) {
        return std::any_of(candidate.begin(), candidate.end(), [](const Operation& o) { return o.verb == "attend"; });
    };
    const Script small = shrink(script, has_attend);
    REQUIRE(small.size() == 1);
    CHECK(small[0].verb == "attend");
    CHECK(small[0].number("seed") == 0);
    const Fails many_tokens = [](const Script& candidate) {
        return std::any_of(candidate.begin(), candidate.end(), [](const Operation& o) {
            return std::any_of(o.counts.begin(), o.counts.end(), [](const auto& count) { return count.second >= 37; });
        });
    };
    Script begins = parse("create\nseq a\nbegin t a:90 b:1 strict=1\nappend t\ncommit t a:90 b:1\n");
    begins = shrink(begins, many_tokens);
    REQUIRE(begins.size() == 1);
    REQUIRE_FALSE(begins[0].counts.empty());
    CHECK(begins[0].counts[0].second == 37);
}
