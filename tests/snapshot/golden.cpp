// The golden files load on every target, are written again to the bit, and no bit of them may differ.
#include "tests/snapshot/golden.h"

#include <filesystem>

#include "tests/laws/precision_session.h"

using namespace kvc_snapshots;

namespace {

void fed(Session& session, const char* seq, int64_t tokens) {
    session.ok("seq a data=3" + std::string(seq));
    kvc_laws::feed(session, "a", tokens, 64);
}

const char* const joined_shape = " k_dim=32 v_dim=16 codec=int3,window=5,sinks=3 spare_pages=1";

void evicted(Session& s) {
    fed(s, "", 400);
    s.ok("evict a scores=5 budget=140");
}

bool refused(const Session& session, const uint8_t* bytes, size_t n) {
    kvc_seq seqs[8] = {};
    const kvc_status status = kvc_snapshot_import(session.replay.cache(), bytes, static_cast<int64_t>(n), seqs, 8, nullptr, nullptr);
    return status == KVC_E_CORRUPT || status == KVC_E_UNSUPPORTED;
}

}  // namespace

const std::vector<Golden>& kvc_snapshots::goldens() {
    static const std::vector<Golden> all = {
        {"int4", " q_heads=2 k_dim=16 codec=int4,window=5,sinks=3", {"a"}, [](Session& s) { fed(s, "", 140); }},
        {"fp16_forks",
         " k_dim=16 codec=fp16",
         {"b", "a"},
         [](Session& s) {
             fed(s, "", 70);
             s.ok("fork b a length=70 data=4");
             s.feed("b", 60, 64);
         }},
        {"int3_evicted", joined_shape, {"a"}, evicted, false},  // made when the emptiest pages were gathered, whatever their age
        {"int3_joined", joined_shape, {"a"}, evicted},
        {"one_part_16_bits",
         " k_dim=16 codec=k=f16,v=int8.tok,window=2,sinks=0",
         {"a"},
         [](Session& s) { fed(s, " first_position=8589934592 prompt_length=50", 70); }},
        {"bf16_two_layers", "layer 1 kv_heads=2 v_dim=32; layers=2 k_dim=16 codec=bf16", {"a"}, [](Session& s) { fed(s, "", 20); }},
        {"kivi2_streaming",
         " k_dim=16 codec=k=int2.ch.g32,v=int2.tok.g16,window=2,sinks=4 policy=streaming:4+70 positions=in_cache rope_theta=10000",
         {"a"},
         [](Session& s) { fed(s, "", 300); }},
        {"h2o_mass",
         " q_heads=2 k_dim=16 codec=int8,window=5,sinks=3 policy=h2o:90",
         {"a"},
         [](Session& s) { fed(s, "", 270); },
         false},
        {"query_sums",
         " q_heads=2 k_dim=16 codec=fp16 policy=expected_attention:70",
         {"a"},
         [](Session& s) { fed(s, "", 100); },
         false},
        {"ladder_stepped",
         " k_dim=16 codec=k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=5,sinks=3/int4/int2",
         {"a", "b"},
         [](Session& s) {
             fed(s, "", 270);
             kvc_laws::stepped(s, "a", {.rung = 1, .recent = 100});
             s.ok("fork b a length=270 data=4");
             kvc_laws::stepped(s, "b", {.rung = 2, .recent = 160});
         }},
        {"merged",
         " k_dim=16 codec=int4,window=5,sinks=3",
         {"a"},
         [](Session& s) {
             fed(s, "", 200);
             std::vector<int32_t> clusters = kvc_laws::unmerged(200, 1);
             for (size_t i = 10; i < 100; ++i)  // every third token stands for itself and the two before it
                 clusters[i] = static_cast<int32_t>(i - i % 3 + 2);
             REQUIRE(kvc_laws::merge(s, "a", clusters).status == KVC_OK);
         }},
        {"empty", " layers=2 k_dim=64 codec=int4", {}, [](Session&) {}},
    };
    return all;
}

TEST_CASE("golden snapshots: every target loads them and writes them again to the bit") {
    for (const Golden& golden : goldens())
        for (const std::string& target : kvc_laws::targets()) {
            CAPTURE(golden.name);
            CAPTURE(target);
            const Bytes bytes = golden.bytes();
            Session session(golden.create, {target, 0});
            const Imported imported = import(session, bytes);
            REQUIRE_MESSAGE(imported.status == KVC_OK, imported.message);
            REQUIRE(imported.seqs.size() == golden.sequences.size());
            for (size_t i = 0; i < imported.seqs.size(); ++i)
                session.replay.adopt(golden.sequences[i], imported.seqs[i], session.replay, "");
            CHECK(exported(session, golden.sequences) == bytes);
            for (const std::string& name : golden.sequences)
                kvc_laws::feed(session, name, 130, 64);
        }
}

// KVC_WRITE_GOLDEN=1 writes those that are not there, with the scalar target; it never replaces one.
TEST_CASE("golden snapshots: what they were made from still gives the same bytes") {
    for (const Golden& golden : goldens())
        for (const std::string& target : kvc_laws::targets()) {
            CAPTURE(golden.name);
            CAPTURE(target);
            const bool write = target == "scalar" && std::getenv("KVC_WRITE_GOLDEN") && !std::filesystem::exists(golden.path());
            if (!golden.any_target && !write) continue;
            Session session(golden.create, {target, 0});
            golden.prepare(session);
            const Bytes bytes = exported(session, golden.sequences);
            if (write) {
                std::ofstream out(golden.path(), std::ios::binary);
                out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
            }
            CHECK(bytes == golden.bytes());
        }
}

TEST_CASE("golden snapshots: each flipped bit and each truncation is refused") {
    for (const Golden& golden : goldens()) {
        CAPTURE(golden.name);
        Bytes bytes = golden.bytes();
        Session session(golden.create);
        int64_t taken = 0;
        for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
            bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
            taken += !refused(session, bytes.data(), bytes.size());
            bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
        }
        for (size_t n = 0; n < bytes.size(); ++n)
            taken += !refused(session, bytes.data(), n);
        CHECK(taken == 0);
        CHECK(session.stats()[8] == 0);
        CHECK(!refused(session, bytes.data(), bytes.size()));
    }
}
