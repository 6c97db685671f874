// A device that refuses memory, and one that fails.
#include "tests/laws/session.h"
#include "tests/reference/plain_device.h"

using kvc_laws::Session;
using kvc_plain::newest_device;

TEST_CASE("faults: memory that the device refuses is no_memory, and nothing has changed") {
    Session session(" k_dim=32 codec=int4");
    session.ok("seq a data=1");
    session.step("a:70");
    const std::vector<int64_t> before = session.stats();
    for (const int64_t allowed : {0, 1}) {  // the step's own, and slabs
        newest_device().allow_allocations(allowed);
        CHECK(session.status("begin t a:200000") == "no_memory");
        CHECK(session.stats().at(2) == before.at(2));
    }
    newest_device().allow_allocations(-1);
    session.step("a:5");
    CHECK(session.number("length a") == 75);
}

TEST_CASE("faults: what failed later is KVC_E_DEVICE to whoever waits, and then to all that would change the cache") {
    Session session(" k_dim=32 codec=int4");
    session.ok("seq a data=1");
    session.step("a:9");
    session.ok("begin t a:1");
    newest_device().break_down("an address that is none");
    SUBCASE("attend") {
        CHECK(session.status("append t seed=1") == "ok");
        CHECK(session.status("attend t seed=1") == "device");
    }
    SUBCASE("synchronize") {
        kvc_error error = {};
        error.struct_size = sizeof error;
        CHECK(kvc_synchronize(session.replay.cache(), &error) == KVC_E_DEVICE);
        CHECK(std::string(error.message).find("an address that is none") != std::string::npos);
    }
    SUBCASE("read") {
        session.ok("abort t");
        CHECK(session.status("read a part=keys") == "device");
    }
    for (const char* line : {"seq c", "begin u a:1", "fork c a length=9", "evict a budget=300", "read a part=keys", "publish a n=9"})
        CHECK_MESSAGE(session.status(line) == "device", line);
    CHECK(session.number("length a") == 9);
    CHECK(session.run("stats").status == KVC_OK);
    if (session.status("abort t") == "ok") CHECK(session.status("abort t") == "handle");
    session.ok("destroy a");  // the session's end destroys the cache, and the device sees that nothing of it is left
}
