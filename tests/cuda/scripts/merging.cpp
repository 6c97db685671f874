// Tokens that others joined weigh on the CUDA backend, here emulated, as they do on the CPU: stored bytes to the bit, outputs within
// what the rounding of q and p allows.
#include <kvc.h>

#include "kernels/simt/fake_device.h"
#include "tests/cuda/scripts/both_sides.h"
#include "tests/laws/merge_session.h"

using namespace kvc_cuda_scripts;
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

TEST_CASE("cuda merging: merged tokens weigh as on the CPU, every preset and class") {
    for (const std::string& preset : codecs_of_device())
        for (const bool prompt : {false, true}) {
            CAPTURE(preset);
            CAPTURE(prompt);
            const std::string create = "layers=1 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window(preset, 5, 3);
            Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
            std::vector<int32_t> clusters = unmerged(250, 2);
            for (size_t row = 0; row < 2; ++row)
                for (size_t i = 3; i < 180; ++i)
                    clusters[row * 250 + i] = static_cast<int32_t>(i + (8 - i % 5) % 5);
            for (Session* session : {&host, &cuda}) {
                session->ok("seq a data=3 prompt_length=" + std::to_string(prompt ? 1000 : 0));
                session->feed("a", 250, 64);
                REQUIRE(merge(*session, "a", clusters).status == KVC_OK);
            }
            CHECK(cuda.stored("a") == host.stored("a"));
            // Without the weights of merged tokens outputs differ by .09.
            CHECK(largest_difference(cuda.feed("a", 70, 33), host.feed("a", 70, 33)) < tolerance);
            CHECK(cuda.stored("a") == host.stored("a"));
        }
}

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

TEST_CASE("cuda merging: policies that merge keep and fold on the device what they do on the CPU, with forks beside them") {
    uint64_t seed = 1;
    for (const std::string& preset : codecs_of_device())
        for (const std::string more : {"merge=keys+values,merge_threshold=none", "merge=values,merge_threshold=0.1"}) {
            CAPTURE(preset);
            CAPTURE(more);
            FakeDevice::get().set_order(seed++);
            const std::string create =
                "layers=1 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window(preset, 5, 3) + " policy=key_norm:140," + more;
            Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
            for (Session* session : {&host, &cuda}) {
                session->ok("seq a data=3 first_position=1000");
                feed(*session, "a", 256, 64);
                session->ok("fork b a length=1256 data=3");
            }
            const Bytes fork = cuda.stored("b");
            for (Session* session : {&host, &cuda})
                feed(*session, "a", 192, 64);
            CHECK(cuda.stored("a") == host.stored("a"));
            CHECK(counts_of(cuda, "a") == counts_of(host, "a"));
            CHECK(cuda.stored("b") == fork);
            CHECK(fork == host.stored("b"));
            FakeDevice::get().set_order(0);
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
