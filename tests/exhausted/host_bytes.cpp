// Law: table_bytes and scratch_bytes of the stats are the heap that a cache holds, but for a constant that kvc.h names.
#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "kvc.h"

#include "tests/exhausted/host_malloc.h"

namespace {

struct Watched {
    std::vector<uint8_t> block = std::vector<uint8_t>((16 << 20) + 128);
    std::vector<float> rows = std::vector<float>(1024 * 4 * 64, 0.5f), out = rows;
    int64_t before = 0;
    kvc_cache* cache = nullptr;
    kvc_step* step = nullptr;

    explicit Watched(const char* codec, const char* policy) {
        kvc_options options;
        kvc_options_init(&options, sizeof options);
        options.layers = 4, options.kv_heads = 2, options.q_heads = 4, options.k_dim = 64;
        std::strcpy(options.codec, codec);
        std::strcpy(options.policy, policy);
        options.arena_block = block.data() + (128 - reinterpret_cast<uintptr_t>(block.data()) % 128) % 128;
        options.arena_bytes = 16 << 20;
        kvc_cache* first = kvc_create(&options, nullptr, 0, nullptr);  // the process keeps its tables of handles for all caches
        const kvc_seq seq = kvc_seq_create(first, nullptr, nullptr);
        const int64_t one = 1;
        kvc_step_abort(kvc_step_begin(first, &seq, &one, 1, nullptr, 0, nullptr, nullptr), nullptr);
        kvc_destroy(first, nullptr);
        before = host_malloc::bytes_in_use();
        cache = kvc_create(&options, nullptr, 0, nullptr);
        REQUIRE(cache != nullptr);
    }
    ~Watched() { kvc_destroy(cache, nullptr); }

    // Heap held beyond what the stats say.
    int64_t unaccounted() const {
        const int64_t held = host_malloc::bytes_in_use() - before;
        kvc_stats stats = {sizeof stats};
        REQUIRE(kvc_stats_get(cache, &stats, nullptr) == KVC_OK);
        CAPTURE(held);
        CAPTURE(stats.table_bytes);
        CAPTURE(stats.scratch_bytes);
        return held - stats.table_bytes - stats.scratch_bytes;
    }

    void begin(kvc_seq seq, int64_t tokens) {
        step = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, nullptr);
        REQUIRE(step != nullptr);
        for (int64_t layer = 0; layer < 4; layer++) {
            const int64_t kv = tokens * 2 * 64 * 4, q = tokens * 4 * 64 * 4;
            REQUIRE(kvc_append(step, layer, rows.data(), kv, rows.data(), kv, nullptr) == KVC_OK);
            REQUIRE(kvc_attend(step, layer, rows.data(), q, out.data(), q, nullptr, 0, nullptr, nullptr) == KVC_OK);
        }
    }
};

}  // namespace

TEST_CASE("host bytes: the stats account for the heap of every moment, but for 4 KB a cache") {
    for (const char* codec : {"fp16", "int4", "kivi2"})
        for (const char* policy : {"", "h2o:256", "expected_attention:256"}) {
            CAPTURE(std::string(codec));
            CAPTURE(std::string(policy));
            Watched x(codec, policy);
            const int64_t empty = x.unaccounted();
            CHECK(empty >= 0);
            CHECK(empty <= 4096);
            int64_t worst = 0, worst_open = 0;  // beyond 256 bytes a sequence
            std::vector<kvc_seq> seqs;
            for (int64_t n = 0; n < 12; n++) {
                seqs.push_back(kvc_seq_create(x.cache, nullptr, nullptr));
                for (int64_t turn = 0; turn < 6; turn++) {
                    x.begin(seqs.back(), 64);
                    const int64_t open = x.unaccounted() - empty;
                    CHECK(open >= 0);
                    worst_open = std::max(worst_open, open - n * 256);
                    REQUIRE(kvc_step_commit(x.step, nullptr, 0, nullptr) == KVC_OK);
                    const int64_t held = x.unaccounted() - empty;
                    CHECK(held >= 0);
                    worst = std::max(worst, held - n * 256);
                }
            }
            for (const kvc_seq seq : seqs)
                REQUIRE(kvc_seq_destroy(x.cache, seq, nullptr) == KVC_OK);
            CHECK(worst <= 1024);
            CHECK(worst_open <= 2048);
            CHECK(x.unaccounted() - empty <= 1024);
        }
}

TEST_CASE("host bytes: entries of the prefix index are accounted for, and given back") {
    for (const char* codec : {"fp16", "int4"}) {
        CAPTURE(std::string(codec));
        const std::vector<int64_t> tokens(1024);
        const std::string salt(100, 's');
        Watched x(codec, "");
        const int64_t empty = x.unaccounted();
        const kvc_seq seq = kvc_seq_create(x.cache, nullptr, nullptr);
        for (int64_t n = 64; n <= 640; n += 64) {
            x.begin(seq, 64);
            REQUIRE(kvc_step_commit(x.step, nullptr, 0, nullptr) == KVC_OK);
            REQUIRE(kvc_prefix_publish(x.cache, seq, tokens.data(), n, salt.data(), n / 10, nullptr, nullptr) == KVC_OK);
            const int64_t held = x.unaccounted() - empty;
            CHECK(held >= 0);
            CHECK(held <= 256 + 16 * n / 64);  // roundings of the heap
        }
        kvc_prefix_stats full = {sizeof full}, none = full;
        REQUIRE(kvc_prefix_stats_get(x.cache, &full, nullptr) == KVC_OK);
        CHECK(full.host_bytes > 10 * 352 * 8);
        REQUIRE(kvc_prefix_clear(x.cache, nullptr) == KVC_OK);
        REQUIRE(kvc_prefix_stats_get(x.cache, &none, nullptr) == KVC_OK);
        CHECK(none.host_bytes < full.host_bytes / 2);
        CHECK(x.unaccounted() - empty <= 512);
    }
}
