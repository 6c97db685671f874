// Law: whichever allocation of host memory fails inside a call, the call answers KVC_E_NO_MEMORY and the cache is as it was.
//
// This program's malloc refuses the n-th request of a call, for n = 0, 1, 2 ... until the call succeeds.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <functional>
#include <string>
#include <unistd.h>
#include <vector>

#include "kvc.h"

#include "tests/exhausted/host_malloc.h"

using host_malloc::granted, host_malloc::refusing;

namespace {

struct Exhausted {
    kvc_options options{};
    kvc_cache* cache = nullptr;
    kvc_seq seq = 0, forked = 0;
    kvc_error err = {sizeof(kvc_error), 0, {}};
    std::vector<float> rows = std::vector<float>(512 * 4 * 64), out = rows;

    Exhausted(const std::string& codec, int64_t threads, int32_t spare_pages) {
        kvc_options_init(&options, sizeof options);
        options.layers = 2, options.kv_heads = 2, options.q_heads = 4, options.k_dim = 64, options.v_dim = 32;
        std::strncpy(options.codec, codec.c_str(), sizeof options.codec - 1);
        options.arena_tokens = 3000, options.arena_sequences = 2, options.threads = threads, options.spare_pages = spare_pages;
        for (size_t i = 0; i < rows.size(); i++)
            rows[i] = float(int64_t(i * 7919 % 2001) - 1000) / 500;
    }

    // What the cache says of itself, but for the tables' spare capacity.
    kvc_stats stats() const {
        kvc_stats now{};
        now.struct_size = sizeof now;
        if (cache) CHECK(kvc_stats_get(cache, &now, nullptr) == KVC_OK);
        now.table_bytes = now.scratch_bytes = 0;
        return now;
    }

    // The call, again and again with one more request granted; `made` says whether it succeeded.
    int64_t until_it_succeeds(const char* name, const std::function<bool()>& made) {
        for (int64_t n = 0; n < 2000; n++) {
            const kvc_stats before = stats();
            err.status = 0;
            granted = n, refusing = true;
            const bool done = made();
            refusing = false;
            if (done) return n;
            CAPTURE(name);
            CAPTURE(n);
            CHECK(err.status == KVC_E_NO_MEMORY);
            const kvc_stats after = stats();
            CHECK(std::memcmp(&before, &after, sizeof before) == 0);
        }
        FAIL(name << " never succeeds");
        return 0;
    }

    // An entry that gives up its window, beside another one.
    void seal(int64_t n) {
        std::vector<int64_t> tokens(size_t(n), 9);
        kvc_prefix_options sealed;
        CHECK(kvc_prefix_options_init(&sealed, sizeof sealed) == KVC_OK);
        sealed.seal = 1;
        CHECK(until_it_succeeds(
                  "seal", [&] { return kvc_prefix_publish(cache, seq, tokens.data(), n, "salt", 4, &sealed, &err) == KVC_OK; }) > 0);
        int64_t removed = 0;
        CHECK(kvc_prefix_remove(cache, tokens.data(), n, "salt", 4, &removed, &err) == KVC_OK);
        CHECK(removed == 1);
    }

    // Both sequences out and in again, through memory and through a file.
    void snapshots() {
        const kvc_seq seqs[2] = {seq, forked};
        int64_t bytes = 0;
        CHECK(until_it_succeeds("export: size",
                                [&] { return kvc_snapshot_export(cache, seqs, 2, nullptr, 0, &bytes, &err) == KVC_OK; }) > 0);
        std::vector<unsigned char> snapshot(static_cast<size_t>(bytes));
        CHECK(until_it_succeeds(
                  "export", [&] { return kvc_snapshot_export(cache, seqs, 2, snapshot.data(), bytes, &bytes, &err) == KVC_OK; }) > 0);
        const std::string path = "kvc_exhausted_" + std::to_string(getpid()) + ".kvcs";
        kvc_seq made[4] = {};
        CHECK(until_it_succeeds(
                  "import", [&] { return kvc_snapshot_import(cache, snapshot.data(), bytes, made, 2, nullptr, &err) == KVC_OK; }) > 0);
        CHECK(until_it_succeeds("save", [&] { return kvc_snapshot_save(cache, seqs, 2, path.c_str(), &err) == KVC_OK; }) > 0);
        CHECK(until_it_succeeds("load", [&] { return kvc_snapshot_load(cache, path.c_str(), made + 2, 2, nullptr, &err) == KVC_OK; }) >
              0);
        CHECK(unlink(path.c_str()) == 0);
        for (const kvc_seq each : made)
            CHECK(kvc_seq_destroy(cache, each, nullptr) == KVC_OK);
    }

    void step(int64_t tokens, bool accumulate, int64_t accepted) {
        kvc_step_options step_options;
        kvc_step_options_init(&step_options, sizeof step_options);
        step_options.accumulate = accumulate, step_options.partial_commit = accepted < tokens;
        kvc_step* open = nullptr;
        CHECK(until_it_succeeds("begin", [&] {
                  return (open = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, &step_options, &err)) != nullptr;
              }) > 0);
        // Nothing after begin needs memory.
        for (int64_t layer = 0; layer < 2; layer++) {
            CHECK(until_it_succeeds("append", [&] {
                      return kvc_append(open, layer, rows.data(), tokens * 2 * 64 * 4, rows.data(), tokens * 2 * 32 * 4, &err) ==
                             KVC_OK;
                  }) == 0);
            CHECK(until_it_succeeds("attend", [&] {
                      return kvc_attend(open, layer, rows.data(), tokens * 4 * 64 * 4, out.data(), tokens * 4 * 32 * 4, nullptr, 0,
                                        nullptr, &err) == KVC_OK;
                  }) == 0);
        }
        CHECK(until_it_succeeds("commit", [&] {
                  return kvc_step_commit(open, accepted < tokens ? &accepted : nullptr, accepted < tokens, &err) == KVC_OK;
              }) == 0);
    }
};

}  // namespace

TEST_CASE("exhausted: every call of a session answers for every allocation that can fail, and nothing is lost") {
    for (const char* codec : {"int4", "kivi2", "fp16"})
        for (int64_t threads : {0, 2})
            for (int32_t spare_pages : {0, 1}) {
                CAPTURE(codec);
                CAPTURE(threads);
                CAPTURE(spare_pages);
                Exhausted x(codec, threads, spare_pages);
                CHECK(x.until_it_succeeds("create", [&] { return (x.cache = kvc_create(&x.options, nullptr, 0, &x.err)) != nullptr; }) >
                      0);
                CHECK(x.until_it_succeeds("seq_create", [&] { return (x.seq = kvc_seq_create(x.cache, nullptr, &x.err)) != 0; }) > 0);
                x.step(300, true, 300);
                x.step(250, false, 201);
                CHECK(x.until_it_succeeds(
                          "fork", [&] { return (x.forked = kvc_seq_fork(x.cache, x.seq, 210, KVC_CUT_INEXACT, &x.err)) != 0; }) > 0);
                std::vector<int64_t> tokens(502, 7);
                kvc_prefix_hit hit{};
                hit.struct_size = sizeof hit;
                CHECK(x.until_it_succeeds("publish", [&] {
                    return kvc_prefix_publish(x.cache, x.seq, tokens.data(), 501, "salt", 4, nullptr, &x.err) == KVC_OK;
                }) > 0);
                kvc_seq found = 0;
                CHECK(x.until_it_succeeds("lookup", [&] {
                    return (found = kvc_prefix_lookup(x.cache, tokens.data(), 502, "salt", 4, nullptr, &hit, &x.err)) != 0;
                }) > 0);
                CHECK(hit.tokens == 501);
                CHECK(kvc_seq_destroy(x.cache, found, nullptr) == KVC_OK);
                x.seal(std::strcmp(codec, "kivi2") == 0 ? 448 : 452);  // whole pages behind no sinks, or four
                CHECK(kvc_prefix_clear(x.cache, nullptr) == KVC_OK);
                std::vector<float> scores(4 * 501);
                for (size_t i = 0; i < scores.size(); i++)
                    scores[i] = float(i * 31 % 997);
                kvc_evict_options evict;
                kvc_evict_options_init(&evict, sizeof evict);
                evict.budget = 260;
                CHECK(x.until_it_succeeds("evict", [&] {
                    return kvc_evict(x.cache, x.seq, scores.data(), int64_t(scores.size()), &evict, nullptr, &x.err) == KVC_OK;
                }) > 0);
                std::vector<int32_t> clusters;
                for (size_t i = 0; i < 4 * 210; i++)
                    clusters.push_back(int32_t(i % 210 > 10 && i % 210 < 64 && i % 5 == 1 ? i % 210 - 1 : i % 210));
                const auto merge = [&] {
                    return kvc_merge(x.cache, x.forked, clusters.data(), int64_t(clusters.size()), nullptr, nullptr, &x.err) == KVC_OK;
                };
                if (spare_pages == 0 || std::strcmp(codec, "fp16") == 0) CHECK(x.until_it_succeeds("merge", merge) > 0);
                CHECK(x.until_it_succeeds(
                          "truncate", [&] { return kvc_seq_truncate(x.cache, x.seq, 170, KVC_CUT_INEXACT, &x.err) == KVC_OK; }) > 0);
                x.snapshots();
                CHECK(kvc_seq_destroy(x.cache, x.seq, nullptr) == KVC_OK);
                CHECK(kvc_seq_destroy(x.cache, x.forked, nullptr) == KVC_OK);
                CHECK(x.stats().record_bytes == 0);
                CHECK(x.stats().bound_bytes == 0);
                CHECK(kvc_destroy(x.cache, nullptr) == KVC_OK);
            }
}

TEST_CASE("exhausted: a calibration file is read whole, or the call is refused") {
    const std::string path = "kvc_exhausted_" + std::to_string(getpid()) + ".cal";
    std::FILE* file = std::fopen(path.c_str(), "wb");
    REQUIRE(file != nullptr);
    REQUIRE(std::fputs("kvc-calibration 1\nlayer 0 k=int4.ch.g32.m8,v=int2.tok.rot.ls,window=64\nlayer 1 int8\nend 2\n", file) >= 0);
    REQUIRE(std::fclose(file) == 0);
    Exhausted x("@" + path, 0, 0);
    CHECK(x.until_it_succeeds("supports", [&] { return kvc_supports(&x.options, nullptr, 0, &x.err) == KVC_OK; }) > 0);
    CHECK(x.until_it_succeeds("create", [&] { return (x.cache = kvc_create(&x.options, nullptr, 0, &x.err)) != nullptr; }) > 0);
    CHECK(kvc_destroy(x.cache, nullptr) == KVC_OK);
    CHECK(unlink(path.c_str()) == 0);
}

namespace {

// Six steps of 64 tokens under a policy; `starved`: every begin is refused memory until it succeeds, and every commit all of it.
std::vector<int64_t> kept_after_steps(const char* policy, bool starved) {
    Exhausted x("int4", 0, 0);
    std::strncpy(x.options.policy, policy, sizeof x.options.policy - 1);
    x.cache = kvc_create(&x.options, nullptr, 0, &x.err);
    REQUIRE_MESSAGE(x.cache != nullptr, x.err.message);
    x.seq = kvc_seq_create(x.cache, nullptr, &x.err);
    const auto begin = [&] {
        const int64_t tokens = 64;
        kvc_step* open = nullptr;
        for (granted = 0; !open && granted < 4000;) {
            const int64_t allowed = granted;
            refusing = starved;
            open = kvc_step_begin(x.cache, &x.seq, &tokens, 1, nullptr, 0, nullptr, &x.err);
            refusing = false;
            if (!open) CHECK(x.err.status == KVC_E_NO_MEMORY);
            granted = allowed + 1;
        }
        REQUIRE(open != nullptr);
        return open;
    };
    for (int64_t i = 0; i < 6; i++) {
        kvc_step* open = begin();
        for (int64_t layer = 0; layer < 2; layer++) {
            const float* rows = x.rows.data() + 1000 * i + layer;
            REQUIRE(kvc_append(open, layer, rows, 64 * 2 * 64 * 4, rows, 64 * 2 * 32 * 4, &x.err) == KVC_OK);
            REQUIRE(kvc_attend(open, layer, rows, 64 * 4 * 64 * 4, x.out.data(), 64 * 4 * 32 * 4, nullptr, 0, nullptr, &x.err) ==
                    KVC_OK);
        }
        granted = 0, refusing = starved;
        CHECK(kvc_step_commit(open, nullptr, 0, &x.err) == KVC_OK);
        refusing = false;
    }
    int64_t live = 0;
    REQUIRE(kvc_seq_live(x.cache, x.seq, 0, 0, &live, &x.err) == KVC_OK);
    CHECK(live == (starved ? 230 + 64 : 230));  // it had no room to act after the last commit
    REQUIRE(kvc_step_abort(begin(), &x.err) == KVC_OK);
    std::vector<int64_t> kept(4 * 230);
    for (int64_t head = 0; head < 4; head++) {
        REQUIRE(kvc_seq_positions(x.cache, x.seq, head / 2, head % 2, kept.data() + 230 * head, 230, nullptr, &x.err) == KVC_OK);
    }
    CHECK(kvc_destroy(x.cache, nullptr) == KVC_OK);
    return kept;
}

}  // namespace

TEST_CASE("exhausted: a policy without memory to act after a commit acts before the next step, with the same result") {
    for (const char* policy : {"h2o:230", "snapkv:230", "key_norm:230", "expected_attention:230", "key_diversity:230"}) {
        CAPTURE(policy);
        CHECK(kept_after_steps(policy, true) == kept_after_steps(policy, false));
    }
}

TEST_CASE("exhausted: a step-down answers for every allocation that can fail, with room for both records and without") {
    for (const char* codec : {"int8/int4/int2", "fp16/int8"})
        for (const bool full : {false, true}) {
            CAPTURE(codec);
            CAPTURE(full);
            Exhausted x(codec, 0, 0);
            if (full) x.options.arena_tokens = x.options.arena_sequences = 0, x.options.arena_bytes = 1048576;
            REQUIRE((x.cache = kvc_create(&x.options, nullptr, 0, &x.err)) != nullptr);
            REQUIRE((x.seq = kvc_seq_create(x.cache, nullptr, &x.err)) != 0);
            const int64_t tokens = 64;
            const int64_t most = full ? 1 << 20 : 300;
            for (int64_t length = 0; length < most; length += tokens) {
                kvc_step* step = kvc_step_begin(x.cache, &x.seq, &tokens, 1, nullptr, 0, nullptr, nullptr);
                if (!step) break;
                for (int64_t layer = 0; layer < 2; layer++)
                    REQUIRE(kvc_append(step, layer, x.rows.data(), tokens * 2 * 64 * 4, x.rows.data(), tokens * 2 * 32 * 4, nullptr) ==
                            KVC_OK);
                REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
            }
            kvc_step_down_report report{};
            report.struct_size = sizeof report;
            CHECK(x.until_it_succeeds("step_down", [&] { return kvc_step_down(x.cache, x.seq, nullptr, &report, &x.err) == KVC_OK; }) >
                  0);
            CHECK(report.pages > 0);
            CHECK(kvc_destroy(x.cache, nullptr) == KVC_OK);
        }
}
