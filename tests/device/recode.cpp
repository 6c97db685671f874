// Evictions and step-downs whose new pages a device makes: no record is read back for them, and what they leave is what the CPU leaves.
#include <kvc.h>

#include "tests/laws/device_session.h"
#include "tests/laws/precision_session.h"
#include "tests/reference/plain_device.h"

using namespace kvc_laws;
using kvc_plain::newest_device;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=32 codec=";
const std::string fp16_ladder = "k=f16,v=f16,window=10,sinks=3/int8/int4/int2";

// Feeds both and runs the lines on both; each must leave the same in a and, if there is one, b.
class Pair {
public:
    explicit Pair(const std::string& create) : host_(open_on(KVC_CPU, create)), device_(open_on(KVC_CUDA, create)) {
        both("seq a data=3 first_position=100");
    }
    void both(const std::string& line) {
        host_.ok(line);
        device_.ok(line);
    }
    void feed(int64_t tokens, int64_t chunk = 60) { CHECK(device_.feed("a", tokens, chunk) == host_.feed("a", tokens, chunk)); }
    void check(const char* name = "a") { CHECK(device_.stored(name) == host_.stored(name)); }
    template <class Verb>
    void verb(const Verb& verb) {
        verb(host_);
        verb(device_);
    }
    // How many pages the device made, and how many records came back for it, in an eviction with such scores.
    struct Work {
        int64_t pages, reads;
    };
    template <class Verb>
    Work work_of(const Verb& run) {
        REQUIRE(kvc_synchronize(device_.replay.cache(), nullptr) == KVC_OK);
        const Work before = {newest_device().pages_recoded(), newest_device().reads()};
        verb(run);
        REQUIRE(kvc_synchronize(device_.replay.cache(), nullptr) == KVC_OK);
        return {newest_device().pages_recoded() - before.pages, newest_device().reads() - before.reads};
    }

private:
    Session host_, device_;
};

}  // namespace

TEST_CASE("device recode: an eviction makes its pages on the device, at every preset") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        Pair pair(shape + short_window(preset, 5, 3));
        pair.feed(600);
        int64_t pages = 0;
        for (const char* line : {"evict a scores=5 budget=300", "evict a scores=6 budget=130", "evict a scores=7 budget=60"}) {
            const Pair::Work work = pair.work_of([&](Session& session) { session.ok(line); });
            CHECK(work.reads == 0);
            pages += work.pages;
            pair.check();
        }
        CHECK(pages >= 8);  // two layers of two heads, twice
        pair.feed(130);
    }
}

TEST_CASE("device recode: a step-down makes its pages on the device, also those that hold dead tokens") {
    for (const std::string& ladder :
         {std::string("int8/int4/int2"), fp16_ladder, std::string("k=int8.tok,v=int8.tok,window=0,sinks=0/k=int4.tok,v=int2.tok")}) {
        CAPTURE(ladder);
        Pair pair(shape + ladder);
        pair.feed(600);
        pair.both("keep a positions=100,101,102,130,200,201,300,400,500,600,699");
        const Pair::Work work = pair.work_of([](Session& session) { stepped(session, "a"); });
        CHECK(work.pages > 0);
        CHECK(work.reads == 0);
        pair.check();
        pair.feed(70);
    }
}

TEST_CASE("device recode: pages whose records forks share are made beside them") {
    for (const std::string& codec : {short_window("int4", 5, 3), short_window("fp16", 0, 0), fp16_ladder}) {
        CAPTURE(codec);
        Pair pair(shape + codec);
        pair.feed(600);
        pair.both("fork b a length=700 data=3");
        for (const char* line : {"evict a scores=5 budget=300", "evict b scores=8 budget=200", "evict a scores=6 budget=130"}) {
            const Pair::Work work = pair.work_of([&](Session& session) { session.ok(line); });
            CHECK(work.reads == 0);
            pair.check("a");
            pair.check("b");
        }
    }
}

TEST_CASE("device recode: pages of gathered tokens are gathered again, their places taken behind those who read them") {
    // 16-bit pages take the emptiest sources, whatever their age, so that positions of pages interleave.
    for (const std::string& codec : {short_window("fp16", 0, 0), fp16_ladder}) {
        CAPTURE(codec);
        Pair pair(shape + codec);
        int64_t pages = 0;
        for (int i = 0; i < 6; i++) {
            pair.feed(500, 64);
            const std::string line = "evict a scores=" + std::to_string(i) + " budget=" + std::to_string(400 + 50 * i);
            const Pair::Work work = pair.work_of([&](Session& session) { session.ok(line); });
            CHECK(work.reads == 0);
            pages += work.pages;
            pair.check();
        }
        CHECK(pages > 100);
    }
}

TEST_CASE(
    "device recode: where the arena is full what leaves goes first, and new pages wait in the device's memory, or on the host if it "
    "has none") {
    for (const bool has_memory : {true, false})
        for (const std::string& codec : {std::string("fp16"), short_window("int4", 5, 3)}) {
            CAPTURE(has_memory);
            CAPTURE(codec);
            Pair pair(shape + codec + " growth=0 arena_tokens=1000");
            pair.feed(999, 512);
            pair.feed(1, 1);
            newest_device().allow_allocations(has_memory ? -1 : 0);
            Pair::Work work = pair.work_of([](Session& session) { session.ok("evict a scores=5 budget=300"); });
            newest_device().allow_allocations(-1);
            const bool was_full = codec == "fp16";
            CHECK((work.reads > 0) == (was_full && !has_memory));
            CHECK((work.pages > 0) == !(was_full && !has_memory));
            pair.check();
            // Now there is room.
            work = pair.work_of([](Session& session) { session.ok("evict a scores=6 budget=100"); });
            CHECK(work.reads == 0);
            CHECK(work.pages > 0);
            pair.check();
        }
}

TEST_CASE("device recode: where the arena is full pages step down in the device's memory, or on the host if it has none") {
    for (const bool has_memory : {true, false}) {
        CAPTURE(has_memory);
        Pair pair("layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=32 growth=0 arena_bytes=1048576 codec=int8/int4");
        int64_t tokens = 0;
        bool full = false;
        while (!full) {
            pair.verb([&](Session& session) {
                full = session.status("begin t a:64") != "ok";
                if (!full) session.ok("abort t");
            });
            if (!full) pair.feed(64, 64);
            tokens += 64;
        }
        CHECK(tokens > 1000);
        newest_device().allow_allocations(has_memory ? -1 : 0);
        const Pair::Work work = pair.work_of([](Session& session) { stepped(session, "a", {.rung = 1}); });
        newest_device().allow_allocations(-1);
        CHECK((work.reads == 0) == has_memory);
        CHECK((work.pages > 0) == has_memory);
        pair.check();
        pair.feed(64, 64);
    }
}

TEST_CASE("device recode: a device that has failed answers so, and keeps its memory until the cache goes") {
    Session session = open_on(KVC_CUDA, shape + "int8/int4");
    session.ok("seq a data=3");
    session.feed("a", 400, 60);
    REQUIRE(kvc_synchronize(session.replay.cache(), nullptr) == KVC_OK);
    newest_device().break_down("an address that is none");
    stepped(session, "a");  // what was queued shows later
    CHECK(kvc_synchronize(session.replay.cache(), nullptr) == KVC_E_DEVICE);
    CHECK(session.status("evict a scores=5 budget=200") == "device");
    session.ok("destroy a");
}
