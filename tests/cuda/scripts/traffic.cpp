// What comes to the host, and how often it waits, where the emulated CUDA device evicts by keys and merges: a few numbers a token.
#include <kvc.h>

#include "kernels/simt/fake_device.h"
#include "tests/cuda/scripts/both_sides.h"
#include "tests/laws/merge_session.h"
#include "tests/laws/policy_session.h"

using namespace kvc_laws;
using kvc::simt::FakeDevice;

namespace {

struct Copied {
    int64_t copies, bytes, waits;
};

// What comes to the host, and how often it waits.
template <class Verb>
Copied copied_by(Session& cuda, const Verb& verb) {
    REQUIRE(kvc_synchronize(cuda.replay.cache(), nullptr) == KVC_OK);
    const FakeDevice::Counts before = FakeDevice::get().counts();
    verb();
    const FakeDevice::Counts after = FakeDevice::get().counts();
    CHECK(after.strays == before.strays);
    return {after.copies_out - before.copies_out, after.bytes_out - before.bytes_out, after.waits - before.waits};
}

}  // namespace

TEST_CASE("cuda merging: a caller's clusters bring nothing to the host, policies eight bytes for each token that leaves") {
    for (const std::string codec : {"int4", "kivi2", "fp16"}) {
        CAPTURE(codec);
        const std::string create = "layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window(codec, 5, 3);
        Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
        std::vector<int32_t> clusters = unmerged(300, 4);
        for (size_t row = 0; row < 4; ++row)
            for (size_t i = 3; i < 200; ++i)
                clusters[row * 300 + i] = static_cast<int32_t>(i % 3 ? i + 3 - i % 3 : i);
        for (Session* session : {&host, &cuda}) {
            session->ok("seq a data=3");
            session->feed("a", 300, 64);
        }
        REQUIRE(merge(host, "a", clusters).status == KVC_OK);
        const Copied merged = copied_by(cuda, [&] { REQUIRE(merge(cuda, "a", clusters).status == KVC_OK); });
        CHECK(merged.copies == 0);
        CHECK(merged.waits == 2);  // one a layer
        CHECK(cuda.stored("a") == host.stored("a"));

        const std::string by_policy = create + " policy=key_norm:150,every=never,merge=keys+values,merge_threshold=none";
        Session policy = open_on(KVC_CUDA, by_policy), on_host = open_on(KVC_CPU, by_policy);
        for (Session* session : {&policy, &on_host}) {
            session->ok("seq a data=3");
            feed(*session, "a", 300, 64);
        }
        REQUIRE(evict_by_policy(on_host, "a") == KVC_OK);
        const Copied evicted = copied_by(policy, [&] { REQUIRE(evict_by_policy(policy, "a") == KVC_OK); });
        CHECK(evicted.copies == 4);  // scores and routes of two layers
        CHECK(evicted.bytes == 4 * (300 + 150) * 8);
        CHECK(evicted.waits == 6);
        CHECK(policy.stored("a") == on_host.stored("a"));
    }
}

TEST_CASE("cuda measure: an eviction brings a copy a layer to the host, eight bytes a token, and waits once for each") {
    for (const std::string codec : {"int4", "fp16"}) {
        CAPTURE(codec);
        Session cuda = open_on(KVC_CUDA, "layers=2 kv_heads=2 q_heads=6 k_dim=64 v_dim=64 codec=" + short_window(codec, 5, 3) +
                                             " policy=key_norm:150,every=never");
        cuda.ok("seq a data=3");
        feed(cuda, "a", 500, 64);
        REQUIRE(kvc_synchronize(cuda.replay.cache(), nullptr) == KVC_OK);
        const FakeDevice::Counts before = FakeDevice::get().counts();
        REQUIRE(evict_by_policy(cuda, "a") == KVC_OK);
        const FakeDevice::Counts after = FakeDevice::get().counts();
        CHECK(cuda.number("live a layer=0 head=0") == 150);
        CHECK(after.copies_out - before.copies_out == 2);
        CHECK(after.bytes_out - before.bytes_out == 2 * 2 * 500 * 8);
        CHECK(after.waits - before.waits == 2);
        CHECK(after.strays == before.strays);
    }
}
