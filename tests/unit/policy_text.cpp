// Policy strings: what is understood, in which canonical form, and what is refused with which words.
#include <doctest/doctest.h>
#include <string>

#include "core/policy/spec.h"

using namespace kvc;

namespace {

std::string canonical(std::string_view text) {
    const auto parsed = parse_policy(text);
    return parsed.ok() ? format_policy(*parsed) : "refused: " + parsed.status().message;
}

// The refusal names the policy, the key, the value and what is allowed.
void check_refused(std::string_view text, std::initializer_list<const char*> words) {
    CAPTURE(std::string(text));
    const auto parsed = parse_policy(text);
    REQUIRE(!parsed.ok());
    CHECK(parsed.status().code == Code::argument);
    for (const char* word : words)
        CHECK_MESSAGE(parsed.status().message.find(word) != std::string::npos, parsed.status().message, " lacks ", word);
}

}  // namespace

TEST_CASE("policy text: canonical forms with all defaults") {
    CHECK(canonical("") == "none");
    CHECK(canonical("none") == "none");
    CHECK(canonical("streaming:4+512") == "streaming:budget=516,sinks=4,every=64");
    CHECK(canonical("streaming:0+64") == "streaming:budget=64,sinks=0,every=64");
    CHECK(canonical("h2o:20%") == "h2o:budget=20%,sinks=4,recent=50%,every=64,mass=exact");
    CHECK(canonical("h2o:20%,mass=observed") == "h2o:budget=20%,sinks=4,recent=50%,every=64,mass=observed,observe=32");
    CHECK(canonical("tova:1024") == "tova:budget=1024,sinks=4,recent=50%,every=64,mass=exact,observe=1");
    CHECK(canonical("snapkv:1024") == "snapkv:budget=1024,sinks=4,recent=50%,every=64,mass=exact,observe=32,pool=avg7");
    CHECK(canonical("snapkv:1024,pool=none,every=8") == "snapkv:budget=1024,sinks=4,recent=50%,every=8,mass=exact,observe=8,pool=none");
    CHECK(canonical("given:100,every=never") == "given:budget=100,sinks=4,recent=0%,every=never");
    CHECK(canonical("key_norm:64MiB,every=commit") == "key_norm:budget=64MiB,sinks=4,recent=50%,every=commit");
    CHECK(canonical("key_norm:1536KiB") == "key_norm:budget=1536KiB,sinks=4,recent=50%,every=64");
    CHECK(canonical("key_norm:1500B") == "key_norm:budget=1500B,sinks=4,recent=50%,every=64");
    CHECK(canonical("h2o:12.5%,sinks=0,recent=33.333%,heads=ada,layers=1.5/1/0.25") ==
          "h2o:budget=12.5%,sinks=0,recent=33.333%,every=64,mass=exact,layers=1.5/1/0.25,heads=ada,floor=20%");
}

TEST_CASE("policy text: merging, its defaults and what it does not go with") {
    CHECK(canonical("h2o:20%,merge=values") ==
          "h2o:budget=20%,sinks=4,recent=50%,every=64,mass=exact,merge=values,merge_threshold=0.9,merge_bias=on");
    CHECK(canonical("key_norm:20%,merge=keys+values,merge_threshold=0.75,merge_bias=off") ==
          "key_norm:budget=20%,sinks=4,recent=50%,every=64,merge=keys+values,merge_threshold=0.75,merge_bias=off");
    CHECK(canonical("h2o:20%,merge_threshold=none,merge=values").ends_with("merge_threshold=none,merge_bias=on"));
    CHECK(canonical("h2o:20%,merge=none") == canonical("h2o:20%"));
    CHECK(canonical("cluster:20%") ==
          "cluster:budget=20%,sinks=4,recent=50%,every=64,merge=keys+values,merge_threshold=none,merge_bias=on");
    CHECK(canonical("cluster:20%,merge=none") == "cluster:budget=20%,sinks=4,recent=50%,every=64,merge=none");
    CHECK(canonical("h2o:20%,merge=values,merge_layers=10..29").ends_with("merge_bias=on,merge_layers=10..29"));
    CHECK(canonical("h2o:20%,merge=values,merge_layers=all") == canonical("h2o:20%,merge=values"));
    for (const char* wrong : {"10", "29..10", "0..4096", "..3", "3..", "0...3", ""})
        check_refused(std::string("h2o:20%,merge=values,merge_layers=") + wrong, {"merge_layers", "middle", "12..29"});
    for (const char* text : {"cluster:20%", "cluster:20%,merge=none", "streaming:100,every=commit,merge=values,merge_threshold=1"})
        CHECK(canonical(canonical(text)) == canonical(text));
    check_refused("h2o:20%,merge=keys", {"merge is \"keys\"", "values or keys+values"});
    check_refused("h2o:20%,merge=values,merge_threshold=1.001", {"merge_threshold", "a cosine of 0 .. 1"});
    check_refused("h2o:20%,merge=values,merge_bias=1", {"merge_bias", "on or off"});
    check_refused("h2o:20%,merge_threshold=0.5", {"merge_threshold does not go with it"});
    check_refused("h2o:20%,merge=none,merge_bias=on", {"merge_bias does not go with it"});
    check_refused("streaming:20%,merge=values", {"merge does not go with it"});
}

TEST_CASE("policy text: a preset is its policy with its settings, which the text may override") {
    const std::string best =
        "mean_attention:budget=20%,sinks=4,recent=50%,every=64,mass=exact,merge=keys+values,merge_threshold=0.9,merge_bias=on,merge_"
        "layers=middle";
    CHECK(canonical("best:20%") == best);
    CHECK(canonical(best) == best);
    CHECK(canonical("best:20%,merge=none") == canonical("mean_attention:20%"));
    CHECK(canonical("best:20%,merge_layers=0..3,sinks=8") ==
          canonical("mean_attention:20%,sinks=8,merge=keys+values,merge_layers=0..3"));
    CHECK(canonical("best:20%,merge_layers=all") == canonical("mean_attention:20%,merge=keys+values"));
    // What is said of it names what was written.
    check_refused("best", {"policy best (mean_attention)", "needs a budget, as in best:20%"});
    check_refused("best:20%,colour=red", {"policy best (mean_attention): it has no key", "budget sinks recent every"});
    check_refused("best:20%,bogus", {"\"bogus\" is no key=value such as budget sinks recent"});
    check_refused("h2o:20%,recent=120%", {"recent is \"120%\", not tokens or a percentage of the budget (at most 100%)"});
    check_refused("best:20%,observe=9", {"policy best (mean_attention): observe does not go with it"});
    check_refused("best:20%,merge=values,merge=none", {"merge is given twice"});
    check_refused("bast:20%", {"none streaming h2o", "best"});
}

TEST_CASE("policy text: a mean needs to know how many queries counted") {
    check_refused("mean_attention:20%,mass=observed,every=never", {"mean_attention", "every=N"});
    check_refused("best:20%,mass=observed,every=commit", {"policy best (mean_attention)", "every=N"});
    CHECK(canonical("mean_attention:20%,mass=observed").ends_with("every=64,mass=observed,observe=32"));
    CHECK(canonical("h2o:20%,mass=observed,every=never").ends_with("every=never,mass=observed,observe=32"));
}

TEST_CASE("policy text: merging in the middle layers takes the middle third, of few layers all") {
    const MergeRule rule = parse_policy("h2o:9,merge=values,merge_layers=middle")->merge;
    const auto acting = [&](int64_t layers) {
        std::string acts;
        for (int64_t i = 0; i < layers; i++)
            acts += rule.acts_on(i, layers) ? 'x' : '.';
        return acts;
    };
    CHECK(acting(1) == "x");
    CHECK(acting(2) == "xx");
    CHECK(acting(3) == ".x.");
    CHECK(acting(8) == "..xxxx..");
    CHECK(acting(30) == "..........xxxxxxxxxx..........");
}

TEST_CASE("policy text: for every policy the canonical form means itself") {
    for (int i = 0; i < policy_count(); i++) {
        const std::string name = policy_at(i).name, never = policy_at(i).traits.given ? ",every=never" : "";
        for (const char* budget : {"409", "20%", "0.001%", "100%", "3MiB", "1099511627776"}) {
            const std::string once = canonical(name + ":" + budget + never);
            CHECK(once.starts_with(name + ":budget="));
            CHECK(canonical(once) == once);
        }
        check_refused(name, {name.c_str(), "budget"});
        check_refused(name + ":sinks=4" + never, {name.c_str(), "budget"});
    }
}

TEST_CASE("policy text: amounts, at their limits") {
    CHECK((Amount{BudgetUnit::share, 20'000}).of(2048) == 409);
    CHECK((Amount{BudgetUnit::share, 100'000}).of((int64_t{1} << 53) - 1) == (int64_t{1} << 53) - 1);
    CHECK((Amount{BudgetUnit::tokens, 7}).of(3) == 7);
    CHECK(canonical("h2o:1,sinks=64").starts_with("h2o:budget=1,sinks=64"));
    for (const char* wrong : {"0", "-5", "+5", "05", "1e3", "1.5", "x", "", "120%", "100.001%", "0%", "20.0%", "1.2345%", "0KiB",
                              "1TiB", "1099511627777", "9999999999999999999"}) {
        check_refused(std::string("h2o:") + wrong, {"policy h2o", "budget", "409, 20%"});
    }
    check_refused("h2o:budget=0", {"policy h2o", "budget is \"0\"", "tokens, a percentage or bytes"});
    check_refused("streaming:4+0", {"4+0", "4+512"});
    check_refused("streaming:65+10", {"65+10"});
    check_refused("streaming:+10", {"+10"});
}

TEST_CASE("policy text: every key refuses what it does not mean, by name, value and limit") {
    check_refused("forget:20%", {"forget", "none streaming h2o"});
    check_refused("h2o:20%,sinks=65", {"sinks is \"65\"", "0 .. 64"});
    check_refused("h2o:20%,sinks=-1", {"sinks is \"-1\"", "0 .. 64"});
    check_refused("h2o:20%,recent=2KiB", {"recent is \"2KiB\"", "percentage"});
    check_refused("h2o:20%,every=0", {"every is \"0\"", "1 .. 65536"});
    check_refused("h2o:20%,every=65537", {"every is \"65537\"", "1 .. 65536"});
    check_refused("h2o:20%,mass=all", {"mass is \"all\"", "exact, observed or page"});
    check_refused("tova:20%,observe=0", {"observe is \"0\""});
    check_refused("tova:20%,every=8,observe=9", {"observe 9", "every 8"});
    for (const char* pool : {"avg", "avg2", "avg4", "avg65", "sum3", "none3", ""})
        check_refused(std::string("snapkv:20%,pool=") + pool, {"pool is", "odd N"});
    for (const char* layers : {"", "2/", "/2", "2//1", "0", "falling"})
        check_refused(std::string("h2o:20%,layers=") + layers, {"layers is", "weights such as 2/1"});
    check_refused("h2o:20%,heads=all", {"heads is \"all\"", "uniform or ada"});
    check_refused("h2o:20%,heads=ada,floor=12", {"floor is \"12\"", "percentage"});
    check_refused("h2o:20%,colour=red", {"colour"});
    check_refused("h2o:20%,sinks", {"sinks"});
    check_refused("h2o:20%,", {"last comma"});
    check_refused("h2o:20%,sinks=1,sinks=1", {"sinks is given twice"});
    check_refused("h2o:20%,budget=30%", {"budget is given twice"});
    check_refused("streaming:4+512,sinks=4", {"sinks is given twice"});
}

TEST_CASE("policy text: keys go only with policies that they mean something to") {
    check_refused("streaming:20%,recent=4", {"recent does not go with it"});
    check_refused("streaming:20%,heads=ada", {"heads does not go with it"});
    check_refused("key_norm:20%,mass=page", {"mass does not go with it"});
    check_refused("h2o:20%,observe=9", {"observe does not go with it"});
    check_refused("h2o:20%,pool=avg3", {"pool does not go with it"});
    check_refused("h2o:20%,floor=10%", {"floor does not go with it"});
    check_refused("given:20%", {"every=never"});
    check_refused("streaming:20%,every=32", {"every is 64"});
}

TEST_CASE("policy text: a pyramid falls from three halves of the mean to one half, given weights go on with their last") {
    const auto pyramid = parse_policy("h2o:20%,layers=pyramid"), given = parse_policy("h2o:20%,layers=3/1");
    REQUIRE(pyramid.ok());
    REQUIRE(given.ok());
    CHECK(pyramid->weight_of(0, 5) == 1500);
    CHECK(pyramid->weight_of(2, 5) == 1000);
    CHECK(pyramid->weight_of(4, 5) == 500);
    CHECK(pyramid->weight_of(0, 1) == 1000);
    CHECK(given->weight_of(0, 5) == 3000);
    CHECK(given->weight_of(4, 5) == 1000);
}
