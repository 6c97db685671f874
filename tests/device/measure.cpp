// Policies that look at keys: a device takes their numbers where the pages lie, so that none of them is read back, and keeps what the CPU keeps.
#include <kvc.h>

#include "tests/laws/device_session.h"
#include "tests/laws/policy_session.h"
#include "tests/reference/plain_device.h"

using namespace kvc_laws;
using kvc_plain::newest_device;

namespace {

const char* const int8_ladder = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=4/int4@512";

}  // namespace

TEST_CASE("device measure: no record is read back for policies by keys, and what stays is what the CPU keeps, at every preset") {
    for (const std::string& preset : presets())
        for (const std::string policy : {"key_norm:160", "key_diversity:160", "expected_attention:160", "cluster:160,merge=none",
                                         "key_norm:160,heads=ada", "key_norm:30%"}) {
            CAPTURE(preset);
            CAPTURE(policy);
            const std::string create = policy_shape + short_window(preset, 10, 4) + " policy=" + policy;
            Session host = open_on(KVC_CPU, create), device = open_on(KVC_CUDA, create);
            for (Session* session : {&host, &device})
                session->ok("seq a data=3 prompt_length=640");
            CHECK(feed(device, "a", 400, 64) == feed(host, "a", 400, 64));
            CHECK(newest_device().measured() > 0);
            CHECK(device.stored("a") == host.stored("a"));
        }
}

TEST_CASE("device measure: an eviction by keys reads no record back, of pages that were repacked before either") {
    for (const std::string& codec : {short_window("int4", 10, 4), short_window("fp16", 10, 0), std::string(int8_ladder)})
        for (const std::string policy : {"key_norm:160", "key_diversity:160", "expected_attention:160", "cluster:160,merge=none"}) {
            CAPTURE(codec);
            CAPTURE(policy);
            const std::string create = policy_shape + codec + " policy=" + policy + ",every=never";
            Session host = open_on(KVC_CPU, create), device = open_on(KVC_CUDA, create);
            for (Session* session : {&host, &device})
                session->ok("seq a data=3");
            for (int i = 0; i < 3; ++i) {
                for (Session* session : {&host, &device}) {
                    feed(*session, "a", 250, 64);
                    session->ok("fork b a length=" + std::to_string(session->number("length a")) + " data=3");
                }
                const Bytes fork = device.stored("b");
                REQUIRE(kvc_synchronize(device.replay.cache(), nullptr) == KVC_OK);
                const int64_t reads = newest_device().reads(), measured = newest_device().measured();
                for (Session* session : {&host, &device})
                    REQUIRE(evict_by_policy(*session, "a") == KVC_OK);
                CHECK(newest_device().reads() == reads);
                CHECK(newest_device().measured() > measured);
                CHECK(device.stored("a") == host.stored("a"));
                CHECK(device.stored("b") == fork);
                for (Session* session : {&host, &device})
                    session->ok("destroy b");
            }
        }
}

TEST_CASE("device measure: policies that look at no keys have none measured") {
    Session device = open_on(KVC_CUDA, policy_shape + short_window("int4", 10, 4) + " policy=h2o:160");
    device.ok("seq a data=3");
    feed(device, "a", 300, 64);
    CHECK(newest_device().measured() == 0);
}
