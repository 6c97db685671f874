// Law: stored bytes do not depend on how a stream is cut into steps, nor on threads, neighbours or kernel target.
#include "tests/laws/device_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=32 codec=";

Bytes stored_after(Session&& session, int64_t tokens, int64_t chunk) {
    session.ok("seq a data=3");
    session.feed("a", tokens, chunk);
    return session.stored("a");
}

Bytes stored_after(const std::string& create, int64_t tokens, int64_t chunk, const kvc_scripts::RunOptions& options = {}) {
    return stored_after(Session(create, options), tokens, chunk);
}

}  // namespace

TEST_CASE("stored bytes: append(n) equals n times append(1), and any other cut, for every preset") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        const std::string create = shape + short_window(preset, 5, 3);
        const Bytes at_once = stored_after(create, 203, 203);
        for (int64_t chunk : {1, 7, 63, 64, 65})
            CHECK_MESSAGE(stored_after(create, 203, chunk) == at_once, "chunk " << chunk);
    }
}

TEST_CASE("stored bytes: every length from 0 to W + 2 pages, at once and one by one") {
    for (int64_t tokens : {0, 1, 2, 3, 63, 64, 65, 66, 67, 68, 130, 131, 132, 133, 195, 196, 197}) {
        CAPTURE(tokens);
        const std::string create = " kv_heads=1 k_dim=32 codec=" + short_window("int4", 64, 3);
        CHECK(stored_after(create, tokens, 1) == stored_after(create, tokens, 1000));
    }
}

TEST_CASE("stored bytes: the same for any number of threads, on every kernel target and on devices") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        const std::string create = shape + short_window(preset, 0, 4);
        const Bytes scalar = stored_after(open_on(KVC_CPU, create, {"scalar", 0}), 150, 50);
        for (const std::string& target : targets())
            for (int64_t threads : {0, 1, 3})
                CHECK_MESSAGE(stored_after(create, 150, 50, {target, threads}) == scalar, target << " with " << threads << " threads");
    }
}

TEST_CASE("stored bytes: neighbours in the batch change nothing") {
    const std::string create = shape + short_window("int4", 5, 3);
    Session alone(create), crowd(create);
    for (Session* session : {&alone, &crowd}) {
        session->ok("seq a data=3");
        session->ok("seq b data=9");
        session->ok("seq c data=10");
    }
    alone.feed("a", 140, 70);
    crowd.step("b:30 a:70 c:1");
    crowd.step("c:64 b:0 a:70");
    CHECK(crowd.stored("a") == alone.stored("a"));
}

TEST_CASE("stored bytes: constant groups, zeros, fp16 extremes and subnormal numbers are held exactly or refused") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        for (const char* kind : {"constant", "zero", "tiny", "extreme"}) {
            CAPTURE(kind);
            Session session(shape + short_window(preset, 0, 1));
            session.ok("seq a");
            session.ok("begin t a:130");
            bool stored = true;
            for (int layer = 0; layer < 2; ++layer) {
                const std::string status = session.status("append t seed=1 layer=" + std::to_string(layer) + " kind=" + kind);
                // Rotated extremes leave the range of fp16; everything else fits.
                CHECK((status == "ok" || (status == "nonfinite" && std::string(kind) == "extreme")));
                stored = stored && status == "ok";
            }
            session.ok(stored ? "commit t" : "abort t");
            if (std::string(kind) != "constant" || preset == "int2" || !stored) continue;
            // A constant channel has a range of 0: per-channel fp16 metadata is exact, m8 within its units.
            const auto keys = session.ok("read a layer=0 head=0 part=keys").values;
            const auto first = keys.begin();
            for (size_t i = 0; i < keys.size(); ++i)
                CHECK(std::abs(keys[i] - *(first + static_cast<long>(i % 64))) <= 0.02f);
        }
    }
}
