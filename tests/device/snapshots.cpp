// Law: a snapshot is of no device. What the CPU exported goes on on a device, and back on the CPU, as if it had never moved.
#include <kvc.h>

#include "tests/laws/device_session.h"
#include "tests/laws/policy_session.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_laws;
using namespace kvc_snapshots;

namespace {

// go_on runs three times: where the sequences were made, on the device, and back on the CPU.
template <typename Prepare, typename GoOn>
void there_and_back(const std::string& create, const Names& names, const Prepare& prepare, const GoOn& go_on) {
    Session stayed = open_on(KVC_CPU, create), device = open_on(KVC_CUDA, create), returned = open_on(KVC_CPU, create);
    prepare(stayed);
    const Bytes snapshot = carry(stayed, device, names);
    CHECK(exported(device, names) == snapshot);
    CHECK(go_on(device) == go_on(stayed));
    const Bytes moved = carry(device, returned, names);
    CHECK(moved == exported(stayed, names));
    CHECK(go_on(returned) == go_on(stayed));
    CHECK(exported(returned, names) == exported(stayed, names));
    for (const std::string& name : names)
        CHECK(returned.stored(name) == stayed.stored(name));
}

const std::string shape = "layers=2 kv_heads=2 q_heads=4 k_dim=96 v_dim=64 codec=";

}  // namespace

TEST_CASE("device: snapshots go from the CPU to a device and back, every preset, boundary lengths, cuts, forks and evictions") {
    for (const std::string& preset : presets())
        for (int64_t length : {0, 1, 63, 64, 72, 200}) {
            CAPTURE(preset);
            CAPTURE(length);
            there_and_back(
                shape + short_window(preset, 5, 3) + " spare_pages=1", {"a", "b"},
                [&](Session& session) {
                    session.ok("seq a data=3 first_position=1000");
                    session.feed("a", length, 64);
                    session.ok("fork b a length=" + std::to_string(1000 + length) + " data=7");
                },
                [](Session& session) {
                    Bytes all = session.feed("a", 150, 64);
                    session.ok("truncate a length=" + std::to_string(session.number("floor a")));
                    session.ok("evict a scores=5 budget=90");
                    const Bytes more = session.step("a:3 b:70");
                    all.insert(all.end(), more.begin(), more.end());
                    return all;
                });
        }
}

TEST_CASE("device: snapshots keep mass and budgets on the way to a device and back, every policy") {
    for (const std::string& policy : policies(120)) {
        CAPTURE(policy);
        there_and_back(
            policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=3 policy=" + policy, {"a"},
            [](Session& session) {
                session.ok("seq a data=3");
                feed(session, "a", 320, 40);
            },
            [](Session& session) { return feed(session, "a", 130, 33); });
    }
}
