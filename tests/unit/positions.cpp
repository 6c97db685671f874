// The gap behind the sinks, from page tables of every kind that evictions and cuts leave.
#include "core/attend/positions.h"

#include <doctest/doctest.h>

using namespace kvc;

namespace {

struct Tables {
    PageRule rule;
    LayerPages pages;

    Tables() {
        rule.sinks = 4, rule.window = 64;
        pages.heads.resize(1);
    }
    int64_t gap(int64_t length, int64_t first_kept = 0) const { return gap_behind_sinks(pages, 0, rule, length, first_kept); }
};

}  // namespace

TEST_CASE("gap: nothing was evicted, or nothing but sinks was ever there") {
    Tables t;
    CHECK(t.gap(0) == 0);
    CHECK(t.gap(4) == 0);
    t.pages.heads[0].window = {{1, 0, all_live}};
    CHECK(t.gap(5) == 0);
    CHECK(t.gap(68) == 0);
}

TEST_CASE("gap: it ends at the first live token of codes, dropped and dead pages skipped") {
    Tables t;
    t.pages.state = {0, 3, 3};
    t.pages.heads[0].coded = {{0, 0, all_live}, {2, 0, 0}, {3, 0, all_live << 5}};
    CHECK(t.gap(200) == 2 * 64 + 5);
    t.pages.state = {1, 3, 3};
    t.pages.heads[0].coded.erase(t.pages.heads[0].coded.begin());
    CHECK(t.gap(200) == 2 * 64 + 5);
}

TEST_CASE("gap: 16-bit pages whose tokens were all evicted are skipped too") {
    Tables t;
    t.pages.heads[0].window = {{1, 0, 0}, {2, 0, 0}, {3, 0, all_live << 16}};
    CHECK(t.gap(4 + 2 * 64 + 16) == 2 * 64 + 16);
    t.pages.heads[0].window.pop_back();
    CHECK(t.gap(4 + 2 * 64) == 2 * 64);  // the next token follows the sinks
}

TEST_CASE("gap: spare pages, also held as codes, are not looked at twice") {
    Tables t;
    t.pages.state = {0, 2, 1};
    t.pages.heads[0].coded = {{0, 0, all_live}, {0, 0, all_live}};
    t.pages.heads[0].window = {{5, 0, 0}, {6, 0, all_live << 1}};
    CHECK(t.gap(4 + 2 * 64 + 10) == 2 * 64 + 1);
}

TEST_CASE("gap: pages that a rule of positions no longer shows belong to it, held or not") {
    Tables t;
    t.pages.state = {0, 2, 2};
    t.pages.heads[0].coded = {{1, 0, all_live}, {2, 0, all_live}};
    t.pages.heads[0].window = {{3, 0, all_live}};
    const int64_t length = 4 + 2 * 64 + 10;
    CHECK(t.gap(length, 0) == 0);
    CHECK(t.gap(length, 1) == 64);
    CHECK(t.gap(length, 2) == 2 * 64);
    CHECK(t.gap(length, 3) == 3 * 64);  // beyond the newest token: what comes next follows the sinks
    CHECK(t.gap(4, 3) == 3 * 64);
}
