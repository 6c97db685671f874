// Law: pages keep the rung that they were stepped down to, through a snapshot and back.
#include "tests/laws/precision_session.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_laws;
using namespace kvc_snapshots;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=64 codec=";

}  // namespace

TEST_CASE("snapshot: mixed rungs come back as they were, shared pages shared, and go on alike on every target") {
    for (const std::string& target : targets())
        for (const std::string codec :
             {"k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3/int4/int2@700", "k=f16,v=f16,window=5,sinks=1/int8/int4@600"}) {
            CAPTURE(target);
            CAPTURE(codec);
            const Names names = {"a", "b"};
            Session original(shape + codec), copy(shape + codec, {target, 0});
            original.ok("seq a data=3");
            kvc_laws::feed(original, "a", 400, 100);
            stepped(original, "a", {1, 0, 1, 0, 200});
            stepped(original, "a", {2, 1, 2, 0, 300});
            original.ok("fork b a length=400");
            stepped(original, "b", {1, 0, 1, 0, 100});
            const Bytes snapshot = carry(original, copy, names);
            CHECK(exported(copy, names) == snapshot);
            CHECK(copy.stats()[2] == original.stats()[2]);
            for (const std::string& name : names) {
                CHECK(copy.stored(name) == original.stored(name));
                CHECK(copy.ok("stats " + name).bytes == original.ok("stats " + name).bytes);
                for (int layer = 0; layer < 2; ++layer)
                    CHECK(rungs_of(copy, name, layer, 1) == rungs_of(original, name, layer, 1));
                kvc_laws::feed(original, name, 700, 100), kvc_laws::feed(copy, name, 700, 100);
                CHECK(rungs_of(copy, name, 1) == rungs_of(original, name, 1));
                CHECK(copy.stored(name) == original.stored(name));
            }
        }
}

TEST_CASE("snapshot: another ladder is another layout") {
    const std::string codec = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3";
    Session original(shape + codec + "/int4");
    original.ok("seq a data=3");
    original.feed("a", 200, 64);
    stepped(original, "a");
    const Bytes snapshot = exported(original, {"a"});
    for (const std::string other : {"", "/int2", "/int4/int2", "/int4@600"}) {
        CAPTURE(other);
        Session session(shape + codec + other);
        CHECK(import(session, snapshot).status == KVC_E_ARGUMENT);
        CHECK(session.stats()[2] == 0);
    }
    Session same(shape + codec + "/int4");
    CHECK(import(same, snapshot).status == KVC_OK);
}
