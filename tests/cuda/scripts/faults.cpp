// Calls of the runtime that fail while the emulated CUDA device evicts, steps down or merges.
#include <kvc.h>

#include "kernels/simt/fake_device.h"
#include "tests/laws/device_session.h"
#include "tests/laws/merge_session.h"
#include "tests/laws/precision_session.h"

using namespace kvc_laws;
using kvc::simt::FakeDevice;

namespace {

const std::string ladder = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3/int4/k3v2/int2";

}  // namespace

TEST_CASE("cuda recode: memory that is refused changes nothing, and any other failure is told from then on") {
    for (const bool evicts : {true, false}) {
        int lost = 0;
        for (int64_t n = 1;; n++) {
            CAPTURE(n);
            Session session = open_on(KVC_CUDA, "layers=1 kv_heads=1 q_heads=1 k_dim=64 codec=" + ladder);
            session.ok("seq a data=3");
            session.feed("a", 300, 64);
            const Bytes before = session.stored("a");
            REQUIRE(kvc_synchronize(session.replay.cache(), nullptr) == KVC_OK);
            const int64_t calls = FakeDevice::get().counts().calls;
            FakeDevice::get().fail_call_in(n);
            const kvc_status done =
                evicts ? static_cast<kvc_status>(session.run("evict a scores=4 budget=80").status) : step_down(session, "a").status;
            FakeDevice::get().fail_call_in(0);
            const bool beyond = FakeDevice::get().counts().calls - calls < n;
            if (done == KVC_E_NO_MEMORY) {  // a slab for records of another size
                CHECK(session.stored("a") == before);
                continue;
            }
            CHECK(done == KVC_OK);
            const kvc_status status = kvc_synchronize(session.replay.cache(), nullptr);
            if (status == KVC_OK) CHECK(session.stored("a") != before);  // nothing failed, or there was a way without the new slab
            if (beyond) break;
            if (status == KVC_OK) continue;
            lost++;
            CHECK(status == KVC_E_DEVICE);
            CHECK(session.status("evict a scores=5 budget=70") == "device");
            CHECK(session.status("begin t a:1") == "device");
            session.ok("destroy a");
            REQUIRE(n < 30);
        }
        CHECK(lost >= 3);
    }
}

TEST_CASE("cuda merging: memory that is refused, and any other call that fails, costs no more than it must") {
    int refused = 0, lost = 0;
    for (int64_t n = 1;; n++) {
        CAPTURE(n);
        Session cuda = open_on(KVC_CUDA, "layers=1 kv_heads=1 q_heads=1 k_dim=64 codec=" + short_window("int4", 5, 3));
        cuda.ok("seq a data=3");
        cuda.feed("a", 200, 64);
        const Bytes before = cuda.stored("a");
        std::vector<int32_t> clusters = unmerged(200, 1);
        for (size_t i = 0; i < 130; ++i)
            clusters[i] = static_cast<int32_t>(i < 3 || i % 3 == 0 ? i : 2 + i % 2 * 148);
        clusters[2] = 2;
        const int64_t calls = FakeDevice::get().counts().calls;
        FakeDevice::get().fail_call_in(n);
        const kvc_status done = merge(cuda, "a", clusters).status;
        FakeDevice::get().fail_call_in(0);
        const bool beyond = FakeDevice::get().counts().calls - calls < n;
        if (done == KVC_E_NO_MEMORY) {
            refused++;
            CHECK(cuda.stored("a") == before);
            CHECK(merge(cuda, "a", clusters).status == KVC_OK);
            continue;
        }
        if (kvc_synchronize(cuda.replay.cache(), nullptr) != KVC_OK) {
            lost++;
            CHECK(cuda.status("begin t a:1") == "device");
            cuda.ok("destroy a");
        } else {
            CHECK(done == KVC_OK);
        }
        if (beyond) break;
        REQUIRE(n < 60);
    }
    CHECK(refused >= 1);  // where no ended step has left memory that can be had instead
    CHECK(lost >= 4);
}
