// Law: a snapshot of the CPU's cache goes on on the CUDA backend, here emulated, and comes back: bytes to the bit, outputs within what
// the rounding of q and p allows.
#include <cmath>
#include <cstring>
#include <kvc.h>
#include <utility>

#include "tests/snapshot/carrier.h"

using namespace kvc_laws;
using namespace kvc_snapshots;

namespace {

Session open_on(int32_t device, const std::string& create) {
    const int32_t before = std::exchange(kvc_scripts::device_of_scripts(), device);
    struct Restored {
        int32_t device;
        ~Restored() { kvc_scripts::device_of_scripts() = device; }
    } restored{before};
    return Session(create);
}

double largest_difference(const Bytes& a, const Bytes& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (size_t i = 0; i < a.size(); i += sizeof(float)) {
        float x = 0, y = 0;
        std::memcpy(&x, &a[i], sizeof x), std::memcpy(&y, &b[i], sizeof y);
        largest = std::max(largest, static_cast<double>(std::fabs(x - y)));
    }
    return largest;
}

constexpr double tolerance = 0.02;  // of outputs of magnitude 1, for products of fp16 numbers

}  // namespace

TEST_CASE("cuda snapshots: from the CPU to CUDA and back, every preset, forks and cuts") {
    for (const std::string& preset : presets())
        for (int64_t length : {0, 1, 64, 200}) {
            CAPTURE(preset);
            CAPTURE(length);
            const std::string create = "layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window(preset, 5, 3);
            Session stayed = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create), returned = open_on(KVC_CPU, create);
            stayed.ok("seq a data=3 first_position=1000");
            stayed.feed("a", length, 64);
            stayed.ok("fork b a length=" + std::to_string(1000 + length) + " data=7");

            const Bytes snapshot = carry(stayed, cuda, {"a", "b"});
            CHECK(exported(cuda, {"a", "b"}) == snapshot);
            CHECK(largest_difference(cuda.feed("a", 70, 64), stayed.feed("a", 70, 64)) < tolerance);
            CHECK(largest_difference(cuda.step("a:1 b:66"), stayed.step("a:1 b:66")) < tolerance);
            for (Session* session : {&stayed, &cuda}) {
                session->ok("truncate a length=" + std::to_string(session->number("floor a")));
                session->ok("evict b scores=5 budget=80");
            }
            CHECK(exported(cuda, {"a", "b"}) == exported(stayed, {"a", "b"}));

            carry(cuda, returned, {"a", "b"});
            CHECK(returned.step("a:1 b:3") == stayed.step("a:1 b:3"));
            CHECK(exported(returned, {"a", "b"}) == exported(stayed, {"a", "b"}));
        }
}
