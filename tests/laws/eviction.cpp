// Law: evicting frees real memory, keeps what it must, and changes no other sequence.
#include <algorithm>
#include <kvc.h>

#include "tests/laws/session.h"
#include "tests/model/model_run.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";

std::vector<int64_t> positions_of(Session& session, const std::string& name, int layer = 0, int head = 0) {
    return session.ok("positions " + name + " layer=" + std::to_string(layer) + " head=" + std::to_string(head)).numbers;
}

// Code records of a head, and the bound ceil(2 * live / 64) on them.
void check_record_bound(Session& session, const std::string& name) {
    for (int layer = 0; layer < 2; ++layer)
        for (int head = 0; head < 2; ++head) {
            const std::string words = name + " layer=" + std::to_string(layer) + " head=" + std::to_string(head);
            const int64_t coded_records = session.number("codes " + words) / 64;
            const int64_t live = session.number("live " + words);
            const int64_t length = session.number("length " + name);
            // Sinks, window: S = 3, W = 10.
            const int64_t uncoded = length - 64 * ((length - 13) / 64);
            CHECK(coded_records <= (2 * (live - uncoded) + 63) / 64);
        }
}

}  // namespace

TEST_CASE("streaming: sinks and the newest tokens stay, and whole pages go back to the arena") {
    for (const std::string& preset : {std::string("int4"), std::string("kivi4"), std::string("fp16")}) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, 10, 3));
        session.ok("seq a data=3");
        session.feed("a", 400, 400);
        const int64_t before = session.stats()[2];
        const std::vector<int64_t> report = session.ok("evict a budget=150").numbers;
        std::vector<int64_t> expected{0, 1, 2};
        for (int64_t j = 400 - 147; j < 400; ++j)
            expected.push_back(j);
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head)
                CHECK(positions_of(session, "a", layer, head) == expected);
        CHECK(report[0] == 4 * 250);
        CHECK(before - session.stats()[2] == report[2]);
        CHECK(report[1] == 4 * 3);  // pages 0 to 2 hold tokens 3 .. 194; page 3 keeps some
        CHECK(session.ok("evict a budget=150").numbers[0] == 0);
    }
}

TEST_CASE(
    "streaming: a 16-bit codec, which pins no sinks by itself, keeps the first four tokens unless its string, scores or positions say "
    "otherwise") {
    const std::vector<int64_t> newest{96, 97, 98, 99};
    const auto kept = [](const std::string& create, const std::string& words) {
        Session session(create);
        session.ok("seq a data=3");
        session.feed("a", 100, 100);
        session.ok("evict a budget=8 " + words);
        std::vector<int64_t> positions = positions_of(session, "a");
        return std::vector<int64_t>(positions.begin(), positions.begin() + 4);
    };
    CHECK(kept(shape + "fp16", "") == std::vector<int64_t>{0, 1, 2, 3});
    CHECK(kept(shape + "bf16", "") == std::vector<int64_t>{0, 1, 2, 3});
    CHECK(kept(shape + "k=f16,v=f16,window=0,sinks=2", "") == std::vector<int64_t>{0, 1, 94, 95});
    CHECK(kept(shape + "fp16 positions=in_cache rope_dims=32 rope_theta=10000", "") == std::vector<int64_t>{92, 93, 94, 95});
    Session session(shape + "fp16");
    session.ok("seq a data=3");
    session.feed("a", 100, 100);
    CHECK(session.status("evict a budget=3") == "argument");
    session.ok("evict a budget=4");
    CHECK(positions_of(session, "a") == std::vector<int64_t>{0, 1, 2, 3});
}

TEST_CASE("scores: the highest stay, ties go to the higher position, each head chooses for itself") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    const kvc_seq a = session.replay.handle_of("a");
    std::vector<float> scores(4 * 300, 0.0f);
    for (size_t head = 0; head < 4; ++head)
        scores[head * 300 + 20 + head] = 1.0f;
    kvc_evict_options options;
    kvc_evict_options_init(&options, sizeof options);
    options.budget = 3 + (300 - 259) + 2;  // sinks, window, and two more
    kvc_evict_report report{};
    report.struct_size = sizeof report;
    REQUIRE(kvc_evict(session.replay.cache(), a, scores.data(), 1200, &options, &report, nullptr) == KVC_OK);
    for (int head = 0; head < 4; ++head) {
        const std::vector<int64_t> kept = positions_of(session, "a", head / 2, head % 2);
        REQUIRE(kept.size() == static_cast<size_t>(options.budget));
        CHECK(kept[3] == 20 + head);
        CHECK(kept[4] == 258);  // of all that scored 0, the newest
    }
    kvc_error error = {sizeof error, 0, ""};
    CHECK(kvc_evict(session.replay.cache(), a, scores.data(), 1199, &options, nullptr, &error) == KVC_E_ARGUMENT);
    scores[7] = __builtin_nanf("");
    CHECK(kvc_evict(session.replay.cache(), a, scores.data(), 1200, &options, nullptr, &error) == KVC_E_NONFINITE);
}

TEST_CASE("sinks and the residual window stay under any budget and any list") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    const Bytes before = session.stored("a");
    CHECK(session.status("evict a budget=43") == "argument");  // 3 sinks and 41 tokens of the window
    CHECK(session.status("evict a budget=60 recent=60") == "argument");
    CHECK(session.status("evict a") == "argument");
    CHECK(session.stored("a") == before);
    session.ok("keep a positions=17");
    std::vector<int64_t> expected{0, 1, 2, 17};
    for (int64_t j = 259; j < 300; ++j)
        expected.push_back(j);
    CHECK(positions_of(session, "a") == expected);
}

TEST_CASE("code records never exceed twice what the live tokens need") {
    for (const std::string& preset : {std::string("int8"), std::string("int4"), std::string("k3v2"), std::string("kivi2")}) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, 10, 3));
        session.ok("seq a data=3");
        session.feed("a", 800, 800);
        for (int64_t budget : {700, 500, 300, 200, 100, 80, 65}) {
            CAPTURE(budget);
            session.ok("evict a scores=5 budget=" + std::to_string(budget));
            check_record_bound(session, "a");
        }
        session.feed("a", 300, 60);
        session.ok("evict a scores=6 budget=120");
        check_record_bound(session, "a");
    }
}

TEST_CASE("evict: a fork's siblings keep every bit, and get their memory back when they end") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 500, 500);
    session.ok("fork b a length=500");
    session.ok("fork c a length=500");
    const Bytes before = session.stored("b");
    session.ok("evict a scores=5 budget=90");
    session.ok("evict c budget=90");
    CHECK(session.stored("b") == before);
    const Bytes a = session.stored("a");
    session.ok("destroy b");
    CHECK(session.stored("a") == a);
    session.ok("destroy c");
    CHECK(session.stored("a") == a);
    session.ok("destroy a");
    CHECK(session.stats()[2] == 0);
}

TEST_CASE("evict: the exact floor becomes the length, and what follows attends to what is left") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    session.ok("evict a scores=5 budget=120");
    CHECK(session.number("floor a") == 300);
    CHECK(session.status("truncate a length=299") == "range");
    session.feed("a", 100, 33);
    CHECK(session.number("live a layer=1 head=1") == 220);
}

TEST_CASE("evict: values move without loss, keys within the bound of one more quantization, and attention follows") {
    for (const std::string& preset : presets())
        for (const char* line :
             {"evict a budget=100", "evict a budget=100 scores=7", "keep a positions=1,9,17,40,41,42,88,120,121,122,199,201"})
            for (const std::string& target : targets()) {
                CAPTURE(preset);
                CAPTURE(line);
                const std::string script =
                    "create growth=1 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window(preset, 10, 3) +
                    "\nseq a data=4\nbegin t a:330\nappend t seed=1\ncommit t\n" + line +
                    "\nread a part=values\nread a part=keys\nread a head=1 part=values\nbegin u a:70\nappend u seed=2\n"
                    "attend u seed=3 kind=sharp\nattend u seed=3 sliding_window=100\ncommit u\n" +
                    line + "\nread a part=values\nstats\n";
                const kvc_scripts::Comparison result = kvc_scripts::compare(kvc_scripts::parse(script), {target, 0});
                CHECK_MESSAGE(result.fault.empty(), result.fault);
            }
}

TEST_CASE("evict: the window of a 16-bit codec stays, also in a page that had fallen behind it before a truncate") {
    for (const std::string codec : {"k=f16,v=f16", "k=bf16,v=bf16"})
        for (const char* line : {"keep a", "evict a budget=12", "keep a positions=8,9,130,131"}) {
            const std::string script = "create growth=1 codec=" + codec +
                                       ",window=5,sinks=7\nseq a\nbegin t a:140\nappend t\ncommit t\n" + "truncate a length=135\n" +
                                       line + "\npositions a\n";
            const kvc_scripts::Comparison result = kvc_scripts::compare(kvc_scripts::parse(script), {targets().back(), 0});
            CHECK_MESSAGE(result.fault.empty(), result.fault);
        }
}

TEST_CASE("evict: in a layer with a sliding window it leaves attention to what is left of the window") {
    Session session(" kv_heads=1 k_dim=32 sliding_window=200 codec=" + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    session.ok("evict a budget=120");
    const std::vector<int64_t> kept = positions_of(session, "a");
    CHECK(kept.size() == 120);
    session.feed("a", 200, 50);
    for (int64_t position : positions_of(session, "a"))
        CHECK((position < 3 || position >= 300 - 117));
}

TEST_CASE("mass: queries leave a mass of one per query head, wherever it lands") {
    for (const std::string& target : targets()) {
        CAPTURE(target);
        Session session(" kv_heads=2 q_heads=6 k_dim=32 codec=" + short_window("int4", 10, 3), {target, 0});
        session.ok("seq a data=3");
        session.feed("a", 150, 50, "accumulate=1");
        for (int head = 0; head < 2; ++head) {
            int64_t sum = 0;
            for (int64_t mass : session.ok("mass a head=" + std::to_string(head)).numbers)
                sum += mass;
            // 150 queries, 3 query heads; each of up to 150 contributions is rounded to half a unit, and single precision to 2^-18.
            const double expected = 150.0 * 3 * 0x1p30;
            CHECK(std::abs(static_cast<double>(sum) - expected) <= expected * 0x1p-16);
        }
    }
}
