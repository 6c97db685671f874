// Policies that look at keys on the CUDA backend: they keep what the CPU keeps.
#include <kvc.h>

#include "tests/cuda/scripts/both_sides.h"
#include "tests/laws/policy_session.h"

using namespace kvc_cuda_scripts;
using namespace kvc_laws;

namespace {

const std::string shape = "layers=2 kv_heads=2 q_heads=6 k_dim=64 v_dim=64 codec=";

}  // namespace

TEST_CASE("cuda measure: policies by keys keep on the device what they keep on the CPU, every preset, and a fork stays as it was") {
    for (const std::string& preset : presets())
        for (const std::string policy : {"key_norm:150", "key_diversity:150", "cluster:150,merge=none"}) {
            CAPTURE(preset);
            CAPTURE(policy);
            const std::string create = shape + short_window(preset, 5, 3) + " policy=" + policy;
            Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
            for (Session* session : {&host, &cuda}) {
                session->ok("seq a data=3 first_position=100");
                feed(*session, "a", 300, 64);
                session->ok("fork b a length=" + std::to_string(session->number("length a")) + " data=3");
            }
            const Bytes fork = cuda.stored("b");
            for (Session* session : {&host, &cuda})
                feed(*session, "a", 150, 64);
            CHECK(cuda.stored("a") == host.stored("a"));
            CHECK(fork == host.stored("b"));
            CHECK(cuda.stored("b") == fork);
            CHECK(cuda.number("live a layer=1 head=1") < 220);
        }
}

TEST_CASE("cuda measure: expected attention keeps the same tokens, with as many queries a head as there are") {
    for (const int queries : {2, 6, 8})
        for (const std::string heads : {"", ",heads=ada"}) {
            const std::string create = "layers=1 kv_heads=2 q_heads=" + std::to_string(queries) +
                                       " k_dim=64 codec=" + short_window("int4", 5, 3) + " policy=expected_attention:150" + heads;
            CAPTURE(create);
            Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
            for (Session* session : {&host, &cuda}) {
                session->ok("seq a data=3");
                feed(*session, "a", 400, 64);
            }
            CHECK(cuda.stored("a") == host.stored("a"));
        }
}
