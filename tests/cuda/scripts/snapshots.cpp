// Law: a snapshot of the CPU's cache goes on on the CUDA backend and comes back: bytes to the bit, outputs within what
// the rounding of q and p allows.
#include <kvc.h>

#include "tests/cuda/scripts/both_sides.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_cuda_scripts;
using namespace kvc_laws;
using namespace kvc_snapshots;

TEST_CASE("cuda snapshots: from the CPU to CUDA and back, every preset, forks and cuts") {
    for (const std::string& preset : codecs_of_device())
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
