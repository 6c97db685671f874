// Merging on a device: tokens find each other, means are taken and pages are made where they lie. No record is read back for it, and what
// is left is what the CPU leaves.
#include <kvc.h>

#include "tests/laws/device_session.h"
#include "tests/laws/merge_session.h"
#include "tests/reference/plain_device.h"

using namespace kvc_laws;
using kvc_plain::newest_device;

namespace {

// By the caller: most tokens of the first `length` join the next multiple of `stride`, some are dropped, and some join the last one.
std::vector<int32_t> clusters_of(int64_t length, int64_t leaving, int64_t first, int32_t stride) {
    std::vector<int32_t> clusters = unmerged(length, 2 * 2);
    for (int64_t row = 0; row < 4; ++row)
        for (int64_t i = first; i < leaving; ++i) {
            const auto joins = static_cast<int32_t>((i + stride - 1) / stride * stride);
            clusters[static_cast<size_t>(row * length + i)] = i % 17 == 1 && i % stride ? -1 : joins;
        }
    return clusters;
}

class Pair {
public:
    explicit Pair(const std::string& create) : host_(open_on(KVC_CPU, create)), device_(open_on(KVC_CUDA, create)) {
        both([](Session& session) { session.ok("seq a data=3 first_position=100"); });
    }
    template <class Verb>
    void both(const Verb& verb) {
        verb(host_);
        verb(device_);
    }
    void feed(int64_t tokens, int64_t chunk = 60) {
        CHECK(kvc_laws::feed(device_, "a", tokens, chunk) == kvc_laws::feed(host_, "a", tokens, chunk));
    }
    void check(const char* name = "a") {
        CHECK(device_.stored(name) == host_.stored(name));
        for (int head = 0; head < 2; ++head)
            CHECK(counts_of(device_, name, 1, head) == counts_of(host_, name, 1, head));
    }
    // Runs it on both; no record comes back for it.
    template <class Verb>
    void unread(const Verb& verb) {
        verb(host_);
        REQUIRE(kvc_synchronize(device_.replay.cache(), nullptr) == KVC_OK);
        const int64_t reads = newest_device().reads(), folded = newest_device().folded();
        verb(device_);
        REQUIRE(kvc_synchronize(device_.replay.cache(), nullptr) == KVC_OK);
        CHECK(newest_device().reads() == reads);
        CHECK(newest_device().folded() > folded);
        check();
    }
    Session& device() { return device_; }

private:
    Session host_, device_;
};

}  // namespace

TEST_CASE("device merging: policies that merge read no record back, every preset, keys and values or values alone") {
    for (const std::string& preset : presets())
        for (const std::string more :
             {"merge=keys+values,merge_threshold=none", "merge=values,merge_threshold=0.2", "merge=keys+values,merge_bias=off"}) {
            CAPTURE(preset);
            CAPTURE(more);
            Pair pair(policy_shape + short_window(preset, 10, 4) + " policy=key_norm:160,every=never," + more);
            for (int i = 0; i < 3; ++i) {
                pair.feed(200);
                // At the first threshold that is not `none` some preset may fold nothing.
                pair.both([](Session& session) { REQUIRE(evict_by_policy(session, "a") == KVC_OK); });
                pair.check();
            }
            CHECK(newest_device().routed() > 0);
            CHECK((newest_device().folded() > 0 || more.find("none") == std::string::npos));
        }
}

TEST_CASE("device merging: a caller's clusters fold into sinks, codes and the window, again and again") {
    for (const std::string& preset : presets())
        for (const bool values_only : {false, true}) {
            CAPTURE(preset);
            CAPTURE(values_only);
            Pair pair(policy_shape + short_window(preset, 10, 4));
            pair.feed(300);
            pair.unread([&](Session& session) {
                const Merge done = merge(session, "a", clusters_of(300, 250, 4, 3), values_only);
                REQUIRE_MESSAGE(done.status == KVC_OK, done.message);
            });
            pair.feed(50);
            pair.unread([&](Session& session) {
                std::vector<int32_t> clusters = clusters_of(350, 260, 0, 3);
                for (int64_t row = 0; row < 4; ++row) {
                    int32_t* const into = &clusters[static_cast<size_t>(row * 350)];
                    for (int i = 0; i < 260; ++i)
                        into[i] = i < 4 ? i : i % 3 ? -1 : i % 6 ? 2 : i;  // into a sink
                    into[9] = into[15] = 349;                              // into the window
                }
                const Merge done = merge(session, "a", clusters, values_only);
                REQUIRE_MESSAGE(done.status == KVC_OK, done.message);
            });
            pair.feed(80);
            pair.check();
        }
}

TEST_CASE("device merging: forks that share pages keep theirs, with pages of several rungs, gathered and where they lie") {
    const std::string rows_above = "k=f16,v=f16,window=10,sinks=4/int8/int2";
    const std::string codes_above = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=4/int4@256";
    for (const std::string& codec :
         {short_window("int4", 10, 4), short_window("kivi2", 10, 4), short_window("fp16", 10, 4), rows_above, codes_above})
        for (const bool values_only : {false, true})
            for (const bool few : {false, true}) {
                CAPTURE(codec);
                CAPTURE(values_only);
                CAPTURE(few);
                Pair pair(policy_shape + codec);
                pair.feed(256, 32);
                pair.feed(256, 32);
                pair.both([](Session& session) { session.ok("fork b a length=612 data=3"); });
                const Bytes fork = pair.device().stored("b");
                std::vector<int32_t> clusters = clusters_of(512, few ? 0 : 440, 4, 5);
                for (size_t row = 0; row < 4 && few; ++row) {  // within a page, into another one, and into a sink
                    int32_t* const into = &clusters[row * 512];
                    into[20] = into[21] = 22, into[100] = 200, into[300] = 2;
                }
                pair.unread([&](Session& session) {
                    const Merge done = merge(session, "a", clusters, values_only);
                    REQUIRE_MESSAGE(done.status == KVC_OK, done.message);
                });
                CHECK(pair.device().stored("b") == fork);
                pair.check("b");
                pair.both([](Session& session) { session.ok("destroy b"); });
                pair.feed(64, 32);
                pair.check();
            }
}

TEST_CASE("device merging: a device without memory for means refuses, and nothing has changed") {
    Session device = open_on(KVC_CUDA, policy_shape + short_window("int4", 10, 4));
    device.ok("seq a data=3");
    feed(device, "a", 300, 64);
    const Bytes before = device.stored("a");
    newest_device().allow_allocations(0);
    CHECK(merge(device, "a", clusters_of(300, 250, 4, 3)).status == KVC_E_NO_MEMORY);
    newest_device().allow_allocations(-1);
    CHECK(device.stored("a") == before);
    CHECK(merge(device, "a", clusters_of(300, 250, 4, 3)).status == KVC_OK);
    CHECK(device.stored("a") != before);
}
