// Mass by pages on a device: no pass over keys, and the bits that the CPU gives.
#include <kvc.h>

#include "tests/laws/device_session.h"
#include "tests/laws/policy_session.h"
#include "tests/reference/plain_device.h"

using namespace kvc_laws;
using kvc_plain::newest_device;

namespace {

const std::string codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4";

}  // namespace

TEST_CASE("device mass: by pages no pass over keys is run, and by tokens one is") {
    for (const bool by_page : {false, true})
        for (const std::string policy : {"h2o:150", "mean_attention:150", "snapkv:150", "tova:150"}) {
            CAPTURE(policy);
            CAPTURE(by_page);
            Session session = open_on(KVC_CUDA, policy_shape + codec + " policy=" + policy + (by_page ? ",mass=page" : ""));
            session.ok("seq a data=3 prompt_length=100");
            feed(session, "a", 200, 50);
            REQUIRE(kvc_synchronize(session.replay.cache(), nullptr) == KVC_OK);
            CHECK((newest_device().mass_passes() > 0) == !by_page);
            CHECK((newest_device().page_masses() > 0) == by_page);
        }
}

TEST_CASE("device mass: by pages it is what the CPU counts, with the evictions that follow from it") {
    for (const std::string& policy : policies(160, ",mass=page")) {
        char canonical[256];
        if (kvc_policy_format(policy.c_str(), canonical, sizeof canonical, nullptr) == 0) continue;  // it keeps no mass
        CAPTURE(policy);
        const std::string create = policy_shape + codec + " policy=" + policy;
        Session host = open_on(KVC_CPU, create), device = open_on(KVC_CUDA, create);
        for (Session* session : {&host, &device})
            session->ok("seq a data=3 prompt_length=250");
        CHECK(feed(device, "a", 400, 64) == feed(host, "a", 400, 64));
        CHECK(device.stored("a") == host.stored("a"));
    }
}
