// Tokens that others joined weigh on the CUDA backend as they do on the CPU: stored bytes to the bit, outputs within
// what the rounding of q and p allows.
#include <kvc.h>

#include "tests/cuda/scripts/both_sides.h"
#include "tests/cuda/scripts/machine.h"
#include "tests/laws/merge_session.h"

using namespace kvc_cuda_scripts;
using namespace kvc_laws;

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

TEST_CASE("cuda merging: policies that merge keep and fold on the device what they do on the CPU, with forks beside them") {
    uint64_t seed = 1;
    for (const std::string& preset : codecs_of_device())
        for (const std::string more : {"merge=keys+values,merge_threshold=none", "merge=values,merge_threshold=0.1"}) {
            CAPTURE(preset);
            CAPTURE(more);
            const Order order(seed++);
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
        }
}
