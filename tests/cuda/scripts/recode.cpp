// Evictions and step-downs on the CUDA backend: the bytes of the CPU, made on the device. No record comes to the host
// for them and no call waits.
#include <kvc.h>

#include "tests/cuda/scripts/both_sides.h"
#include "tests/cuda/scripts/machine.h"
#include "tests/laws/precision_session.h"

using namespace kvc_cuda_scripts;
using namespace kvc_laws;

namespace {

const char* const ladders[] = {"k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3/int4/k3v2/int2",
                               "k=f16,v=f16,window=10,sinks=3/int8/int4/int2", "k=f16,v=f16,window=0,sinks=0/kivi4/kivi2",
                               "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3/k=int4.ch.g64.m8,v=int4.tok.rot.sym/int2",
                               "k=f16,v=f16,window=0,sinks=0/kivi4/k=int4.ch.g64,v=int4.tok.ls/k=int2.ch.g64,v=int2.tok.sym"};
std::string shape_with(const std::string& codec) {
    const std::string k_dim = codec.find(".g64") == std::string::npos ? "96" : "64";
    return "layers=2 kv_heads=2 q_heads=4 k_dim=" + k_dim + " v_dim=64 codec=" + codec;
}

// Runs it on both; on the device without a record on its way to the host, and without waiting.
template <class Verb>
void on_both(Session& host, Session& cuda, const Verb& verb) {
    verb(host);
    const Quiet quiet(cuda.replay.cache());
    verb(cuda);
    quiet.check();
    CHECK(cuda.stored("a") == host.stored("a"));
}

void feed_both(Session& host, Session& cuda, int64_t tokens, const std::string& options = "") {
    for (Session* session : {&host, &cuda})
        session->feed("a", tokens, 64, options);
}

}  // namespace

TEST_CASE("cuda recode: evictions by positions and by scores repack on the device, again and again, every preset") {
    uint64_t seed = 1;
    for (const std::string& preset : codecs_of_device()) {
        CAPTURE(preset);
        const Order order(seed++);
        const std::string create = shape_with(short_window(preset, 5, 3));
        Session host = open_on(KVC_CPU, create), cuda = open_on(KVC_CUDA, create);
        for (Session* session : {&host, &cuda})
            session->ok("seq a data=3 first_position=1000");
        feed_both(host, cuda, 450);
        for (const char* line : {"evict a scores=5 budget=230", "evict a scores=9 budget=120"})
            on_both(host, cuda, [&](Session& session) { session.ok(line); });
        CHECK(host.number("live a layer=0 head=0") == 120);
        feed_both(host, cuda, 200);
        on_both(host, cuda, [](Session& session) { session.ok("evict a scores=2 budget=150"); });
        CHECK(largest_difference(cuda.feed("a", 5, 3), host.feed("a", 5, 3)) < tolerance);
    }
}

TEST_CASE("cuda recode: an eviction by attention mass repacks on the device") {
    for (const std::string codec : {"int4", "kivi2", "fp16"}) {
        CAPTURE(codec);
        const std::string create = shape_with(short_window(codec, 5, 3));
        Session cuda = open_on(KVC_CUDA, create + " policy=tova:100,every=never");
        cuda.ok("seq a data=3");
        feed(cuda, "a", 400, 50);
        const Quiet quiet(cuda.replay.cache());
        REQUIRE(evict_by_policy(cuda, "a") == KVC_OK);
        quiet.check();
        CHECK(cuda.number("live a layer=1 head=1") == 100);
        CHECK(cuda.stats()[7] > 0);  // pages were repacked
    }
}

TEST_CASE("cuda recode: pages step down on the device, rung by rung, and an eviction gathers mixed rungs") {
    uint64_t seed = 1;
    for (const std::string ladder : ladders) {
        CAPTURE(ladder);
        const Order order(seed++);
        Session host = open_on(KVC_CPU, shape_with(ladder)), cuda = open_on(KVC_CUDA, shape_with(ladder));
        for (Session* session : {&host, &cuda})
            session->ok("seq a data=3");
        feed_both(host, cuda, 400);
        on_both(host, cuda, [](Session& session) { stepped(session, "a", {.rung = 1, .recent = 100}); });
        on_both(host, cuda, [](Session& session) { session.ok("evict a scores=4 budget=200"); });
        feed_both(host, cuda, 130);
        on_both(host, cuda, [](Session& session) { session.ok("evict a scores=6 budget=150"); });
        on_both(host, cuda, [](Session& session) { stepped(session, "a"); });
        CHECK(rungs_of(cuda, "a") == rungs_of(host, "a"));
        CHECK(largest_difference(cuda.feed("a", 5, 3), host.feed("a", 5, 3)) < tolerance);
    }
}

TEST_CASE("cuda recode: forks that share records keep theirs") {
    for (const std::string ladder : ladders) {
        CAPTURE(ladder);
        Session host = open_on(KVC_CPU, shape_with(ladder)), cuda = open_on(KVC_CUDA, shape_with(ladder));
        for (Session* session : {&host, &cuda})
            session->ok("seq a data=3");
        feed_both(host, cuda, 400);
        for (Session* session : {&host, &cuda})
            session->ok("fork b a length=400 data=3");
        const Bytes fork = host.stored("b");
        on_both(host, cuda, [](Session& session) { session.ok("evict a scores=4 budget=200"); });
        on_both(host, cuda, [](Session& session) { stepped(session, "a"); });
        CHECK(cuda.stored("b") == fork);
        for (Session* session : {&host, &cuda})
            session->ok("destroy b");
        on_both(host, cuda, [](Session& session) { session.ok("evict a scores=5 budget=90"); });
    }
}
