// What export and import refuse, by name, and that a refused call has changed nothing.
#include <cstring>

#include "core/base/xxh64.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_snapshots;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=int4";

// A snapshot of a sequence of 300 tokens.
Bytes sample(const std::string& create = shape) {
    Session session(create);
    session.ok("seq a data=3");
    session.feed("a", 300, 64);
    return exported(session, {"a"});
}

}  // namespace

TEST_CASE("snapshot: sequences in an open step, foreign ones and double ones are refused") {
    Session session(shape), other(shape);
    session.ok("seq a data=3");
    session.ok("seq b data=4");
    session.feed("a", 100, 64);
    session.open("t", "a:5");
    const kvc_seq a = session.replay.handle_of("a"), b = session.replay.handle_of("b");
    kvc_cache* cache = session.replay.cache();
    int64_t bytes = -7;
    const auto asked = [&](std::vector<kvc_seq> seqs) {
        return kvc_snapshot_export(cache, seqs.data(), static_cast<int64_t>(seqs.size()), nullptr, 0, &bytes, nullptr);
    };
    CHECK(asked({a}) == KVC_E_BUSY);
    CHECK(asked({b, a}) == KVC_E_BUSY);
    CHECK(kvc_snapshot_export(cache, nullptr, 0, nullptr, 0, &bytes, nullptr) == KVC_E_BUSY);
    CHECK(asked({b, b}) == KVC_E_ARGUMENT);
    CHECK(asked({b, 0}) == KVC_E_HANDLE);
    CHECK(bytes == -7);
    CHECK(asked({b}) == KVC_OK);
    session.ok("abort t");
    CHECK(asked({a}) == KVC_OK);
    CHECK(kvc_snapshot_export(other.replay.cache(), &a, 1, nullptr, 0, &bytes, nullptr) == KVC_E_HANDLE);
    CHECK(kvc_snapshot_export(cache, nullptr, 1, nullptr, 0, &bytes, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_export(cache, &a, -1, nullptr, 0, &bytes, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_export(cache, &a, 1, nullptr, 0, nullptr, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_export(nullptr, &a, 1, nullptr, 0, &bytes, nullptr) == KVC_E_HANDLE);
}

TEST_CASE("snapshot: a buffer that is too small stays as it is") {
    Session session(shape);
    session.ok("seq a data=3");
    session.feed("a", 100, 64);
    const kvc_seq a = session.replay.handle_of("a");
    Bytes out(exported(session, {"a"}).size() - 1, 0xee);
    const Bytes before = out;
    int64_t bytes = -7;
    const auto size = static_cast<int64_t>(out.size());
    CHECK(kvc_snapshot_export(session.replay.cache(), &a, 1, out.data(), size, &bytes, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_export(session.replay.cache(), &a, 1, nullptr, size, &bytes, nullptr) == KVC_E_ARGUMENT);
    CHECK((out == before && bytes == -7));
}

TEST_CASE("snapshot: a cache that differs is named by its difference") {
    const Bytes bytes = sample();
    const std::pair<std::string, std::string> others[] = {
        {" layers=3 kv_heads=2 q_heads=4 k_dim=32 codec=int4", "layers 3"},
        {" layers=2 kv_heads=1 q_heads=4 k_dim=32 codec=int4", "kv_heads 1"},
        {" layers=2 kv_heads=2 q_heads=2 k_dim=32 codec=int4", "q_heads 2"},
        {" layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=int4", "k_dim 64"},
        {" layers=2 kv_heads=2 q_heads=4 k_dim=32 v_dim=16 codec=int4", "v_dim 16"},
        {" layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=int3", "int3.ch.g32.m8"},
        {" layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=int4,window=64", "window=64"},
        {" layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=int4,sinks=5", "sinks=5"},
        {shape + " sliding_window=99", "sliding_window 99"},
        {shape + " spare_pages=1", "spare_pages 1"},
        {shape + " policy=h2o:300", "policy h2o:budget=300"},
        {shape + " keys=before codec=kivi4 rope_theta=10000", "before RoPE"},
        {shape + " positions=in_cache rope_theta=10000", "in-cache"},
    };
    for (const auto& [create, word] : others) {
        CAPTURE(create);
        Session session(create);
        const Imported refused = import(session, bytes);
        CHECK(refused.status == KVC_E_ARGUMENT);
        CHECK_MESSAGE(refused.message.find(word) != std::string::npos, refused.message);
        CHECK(session.stats()[8] == 0);
    }
    const std::string turning = shape + " positions=in_cache rope_theta=";
    Session other(turning + "500000");
    const Imported refused = import(other, sample(turning + "10000"));
    CHECK(refused.status == KVC_E_ARGUMENT);
    CHECK(refused.message.find("frequencies") != std::string::npos);
}

TEST_CASE("snapshot: the number of sequences is told, and room for too few handles is refused") {
    const Bytes bytes = sample();
    Session session(shape);
    const auto size = static_cast<int64_t>(bytes.size());
    int64_t n = 0;
    kvc_cache* cache = session.replay.cache();
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, nullptr, 0, &n, nullptr) == KVC_OK);
    CHECK(n == 1);
    kvc_seq seq = 77;
    n = 9;
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, &seq, 0, &n, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, nullptr, 1, &n, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, &seq, -1, &n, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(cache, bytes.data(), -1, &seq, 1, &n, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(cache, nullptr, size, &seq, 1, &n, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, nullptr, 0, nullptr, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_snapshot_import(nullptr, bytes.data(), size, &seq, 1, &n, nullptr) == KVC_E_HANDLE);
    CHECK(kvc_snapshot_import(cache, nullptr, 0, &seq, 1, &n, nullptr) == KVC_E_CORRUPT);
    CHECK((seq == 77 && n == 9 && session.stats()[8] == 0));
    CHECK(kvc_snapshot_import(cache, bytes.data(), size, &seq, 1, nullptr, nullptr) == KVC_OK);
    CHECK(session.stats()[8] == 1);
}

TEST_CASE("snapshot: an arena without room refuses all of it and keeps what it has") {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 2, options.kv_heads = 2, options.q_heads = 4, options.k_dim = 32, options.arena_tokens = 400;
    kvc_error error = {sizeof error, 0, ""};
    const Bytes bytes = sample();
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    const auto stats = [&] {
        kvc_stats now{};
        now.struct_size = sizeof now;
        REQUIRE(kvc_stats_get(cache, &now, nullptr) == KVC_OK);
        return now;
    };
    std::vector<kvc_seq> seqs;
    for (kvc_seq seq = 0;; seqs.push_back(seq)) {
        const kvc_stats before = stats();
        const kvc_status status =
            kvc_snapshot_import(cache, bytes.data(), static_cast<int64_t>(bytes.size()), &seq, 1, nullptr, &error);
        if (status == KVC_OK) continue;
        CHECK(status == KVC_E_NO_MEMORY);
        const kvc_stats after = stats();
        CHECK(after.record_bytes == before.record_bytes);
        CHECK(after.bound_bytes == before.bound_bytes);
        CHECK(after.sequences == int64_t(seqs.size()));
        break;
    }
    REQUIRE(!seqs.empty());
    CHECK(kvc_seq_destroy(cache, seqs[0], nullptr) == KVC_OK);
    CHECK(kvc_snapshot_import(cache, bytes.data(), static_cast<int64_t>(bytes.size()), seqs.data(), 1, nullptr, nullptr) == KVC_OK);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

TEST_CASE("snapshot: sections that nobody knows are skipped, or refused if they are required; another version is refused") {
    const Bytes bytes = sample();
    const auto sealed = [](Bytes whole) {  // size and checksum of the header anew
        const uint64_t total = whole.size();
        std::memcpy(&whole[16], &total, 8);
        const uint64_t sum = kvc::xxh64(std::as_bytes(std::span(whole)).first(32));
        std::memcpy(&whole[32], &sum, 8);
        return whole;
    };
    const auto with_section = [&](uint32_t flags) {
        Bytes section = {'N', 'E', 'W', 'S', uint8_t(flags), 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3};
        const uint64_t sum = kvc::xxh64(std::as_bytes(std::span(section)));
        section.resize(section.size() + 8);
        std::memcpy(&section[section.size() - 8], &sum, 8);
        Bytes whole = bytes;
        whole.insert(whole.end(), section.begin(), section.end());
        whole[12]++;
        return sealed(whole);
    };
    Session session(shape);
    CHECK(import(session, with_section(0)).status == KVC_OK);
    const Imported refused = import(session, with_section(1));
    CHECK(refused.status == KVC_E_UNSUPPORTED);
    CHECK(refused.message.find("NEWS") != std::string::npos);
    Bytes newer = bytes;
    newer[8] = 2;
    CHECK(import(session, sealed(newer)).status == KVC_E_UNSUPPORTED);
    Bytes longer = bytes;
    longer.push_back(0);
    CHECK(import(session, longer).status == KVC_E_CORRUPT);
    CHECK(import(session, sealed(longer)).status == KVC_E_CORRUPT);
    CHECK(session.stats()[8] == 1);
}
