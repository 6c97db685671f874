// The C API on a machine with several CUDA devices, here emulated: which there are, and caches on two of them side by side.
#include <cstring>
#include <functional>
#include <kvc.h>
#include <memory>
#include <thread>

#include "tests/cuda/emulated_device.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_laws;
using kvc::simt::FakeDevice;
using kvc_snapshots::exported;
using kvc_test::Elsewhere;
namespace runtime = kvc::cuda::runtime;

namespace {

FakeDevice::Counts held_by(int ordinal) { return FakeDevice::get().counts_of(ordinal); }

bool holds_as_much(const FakeDevice::Counts& a, const FakeDevice::Counts& b) {
    return a.blocks == b.blocks && a.pinned_blocks == b.pinned_blocks;
}

// What a cache on one device lets its caller see, part by part.
class Course {
public:
    Course(int64_t ordinal, int64_t data, const std::string& target = "") {
        const std::string name = std::to_string(data);
        add([=, this] {
            session_ = std::make_unique<Session>("layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window("int4", 5, 3),
                                                 kvc_scripts::RunOptions{.target = target, .ordinal = ordinal});
            session_->ok("seq a data=" + name);
        });
        add([this] { see(session_->feed("a", 130, 64, "accumulate=1")); });
        add([=, this] {
            session_->ok("fork b a length=130 data=" + name);
            see(session_->step("a:1 b:3"));
        });
        add([this] {
            session_->ok("evict b scores=5 budget=80");
            session_->ok("truncate a length=" + std::to_string(session_->number("floor a")));
        });
        add([this] { see(session_->step("a:1 b:66")); });
        add([this] { CHECK(session_->status("truncate a length=9999") != "ok"); });
        add([this] { see(session_->stored("a")); });
        add([this] { see(exported(*session_, {"a", "b"})); });
        add([this] { pass_through_buffers(); });
        add([this] { session_.reset(); });
    }

    // False when there is none left.
    bool run_part() {
        if (next_ < parts_.size()) {
            const int before = runtime::selected();
            parts_[next_++]();
            CHECK(runtime::selected() == before);
        }
        return next_ < parts_.size();
    }
    const Bytes& seen() const { return seen_; }

private:
    void add(std::function<void()> part) { parts_.push_back(std::move(part)); }
    void see(const Bytes& bytes) { seen_.insert(seen_.end(), bytes.begin(), bytes.end()); }

    void pass_through_buffers() {
        kvc_cache* const cache = session_->replay.cache();
        const Bytes sent(seen_.begin(), seen_.begin() + 5000);
        const auto bytes = int64_t(sent.size());
        Bytes back(sent.size());
        void* const there = kvc_buffer_create(cache, KVC_BUFFER_DEVICE, bytes, nullptr);
        void* const pinned = kvc_buffer_create(cache, KVC_BUFFER_PINNED, bytes, nullptr);
        REQUIRE(there != nullptr);
        REQUIRE(pinned != nullptr);
        CHECK(kvc_buffer_copy(cache, there, KVC_CUDA, sent.data(), KVC_CPU, bytes, nullptr) == KVC_OK);
        CHECK(kvc_buffer_copy(cache, pinned, KVC_CPU, there, KVC_CUDA, bytes, nullptr) == KVC_OK);
        std::memcpy(back.data(), pinned, back.size());
        CHECK(back == sent);
        CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, there, nullptr) == KVC_OK);
        CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_PINNED, pinned, nullptr) == KVC_OK);
        CHECK(kvc_synchronize(cache, nullptr) == KVC_OK);
    }

    std::vector<std::function<void()>> parts_;
    size_t next_ = 0;
    std::unique_ptr<Session> session_;
    Bytes seen_;
};

// Alone, and nothing of it on any other device.
Bytes run_alone(int64_t ordinal, int64_t data) {
    const FakeDevice::Counts before[] = {held_by(0), held_by(1), held_by(2)};
    Course course(ordinal, data);
    for (bool more = true; more;) {
        more = course.run_part();
        for (int i = 0; i < 3; i++) {
            CHECK(holds_as_much(held_by(i), before[i]) == (i != ordinal || !more));
        }
    }
    return course.seen();
}

kvc_options options_for(int64_t ordinal) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.device = KVC_CUDA, options.device_ordinal = ordinal;
    options.layers = 1, options.kv_heads = 1, options.k_dim = 64, options.arena_growth = 1;
    return options;
}

}  // namespace

TEST_CASE("cuda devices: what there is no kernel for is said in full, whatever the codec before it") {
    const auto refusal = [](const char* codec, int64_t k_dim) {
        kvc_error error = {sizeof error, 0, ""};
        kvc_options options;
        REQUIRE(kvc_options_init(&options, sizeof options) == KVC_OK);
        options.device = KVC_CUDA, options.layers = 2, options.kv_heads = 2, options.k_dim = k_dim, options.arena_growth = 1;
        std::strncpy(options.codec, codec, sizeof options.codec - 1);
        CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_E_UNSUPPORTED);
        return std::string(error.message);
    };
    CHECK(refusal("k=int4.ch.g64.m8.clip0.95,v=int4.tok.rot.sym.clip0.9", 96).ends_with("64 and 128, of a codec that is no preset's"));
    CHECK(refusal("k=int4.ch.g32.m8.clip0.95,v=int4.tok.rot.sym.clip0.9", 192).ends_with("and k 192 with v 128"));
    CHECK(refusal("k=int8.ch.g64.m8.clip0.95,v=int8.tok.rot.sym.clip0.9", 64).ends_with("lists the codecs)"));
    CHECK(refusal("k=int8.ch.g32.m8.clip0.95,v=int8.tok.rot.clip0.9", 64).ends_with("neither in groups of 32"));
}

TEST_CASE("cuda devices: all are counted and described, and a cache on one that there is not is refused") {
    const Elsewhere elsewhere;
    kvc_error error = {sizeof error, 0, ""};
    CHECK(kvc_device_count(KVC_CUDA, &error) == 3);
    char name[32];
    for (int64_t ordinal = 0; ordinal < 3; ordinal++) {
        CHECK(kvc_device_describe(KVC_CUDA, ordinal, name, sizeof name, &error) == int64_t(sizeof "emulated 0"));
        CHECK(std::string(name) == "emulated " + std::to_string(ordinal));
        const kvc_options options = options_for(ordinal);
        CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_OK);
    }
    for (const int64_t ordinal : {int64_t{-1}, int64_t{3}, INT64_MAX}) {
        CAPTURE(ordinal);
        const std::string refusal = std::to_string(ordinal) + " is out of range (devices = 3)";
        CHECK(kvc_device_describe(KVC_CUDA, ordinal, name, sizeof name, &error) == 0);
        CHECK(error.status == KVC_E_ARGUMENT);
        CHECK(std::string(error.message) == "CUDA device " + refusal);
        const kvc_options options = options_for(ordinal);
        error = {sizeof error, 0, ""};
        CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
        CHECK(error.status == KVC_E_ARGUMENT);
        CHECK(std::string(error.message) ==
              (ordinal < 0 ? "device_ordinal -1 names no device of that kind" : "CUDA device " + refusal));
    }
    CHECK(runtime::selected() == Elsewhere::ordinal);
}

TEST_CASE("cuda devices: caches on two devices, in turn and by two threads, give what each gives alone") {
    const Elsewhere elsewhere;
    const FakeDevice::Counts before = FakeDevice::get().counts();
    const Bytes alone[] = {run_alone(0, 3), run_alone(1, 5)};
    CHECK(alone[0] != alone[1]);
    CHECK(run_alone(1, 3) == alone[0]);
    for (const uint64_t seed : {0, 7}) {
        CAPTURE(seed);
        const kvc_test::Order order(seed);
        {
            Course first(0, 3), second(1, 5);
            for (bool more = true; more;) {
                more = first.run_part();
                CHECK(second.run_part() == more);
            }
            CHECK(first.seen() == alone[0]);
            CHECK(second.seen() == alone[1]);
        }
        Course first(0, 3), second(1, 5);
        std::thread other([&] {
            CHECK(runtime::select(1).ok());
            while (first.run_part()) {
            }
        });
        while (second.run_part()) {
        }
        other.join();
        CHECK(first.seen() == alone[0]);
        CHECK(second.seen() == alone[1]);
    }
    CHECK(runtime::selected() == Elsewhere::ordinal);
    CHECK(holds_as_much(FakeDevice::get().counts(), before));
    CHECK(FakeDevice::get().counts().strays == before.strays);
}

TEST_CASE("cuda devices: a target says which pool memory comes from, and what none can be is refused") {
    const Elsewhere elsewhere;
    const FakeDevice::Counts before = FakeDevice::get().counts();
    kvc_error error = {sizeof error, 0, ""};
    kvc_options options = options_for(1);
    for (const auto& [target, pools] : {std::pair{"", 0}, {",pool", 0}, {",pool=own", 1}}) {
        CAPTURE(std::string(target));
        std::strcpy(options.target, target);
        kvc_cache* const cache = kvc_create(&options, nullptr, 0, &error);
        REQUIRE(cache != nullptr);
        CHECK(FakeDevice::get().counts().pools == before.pools + pools);
        void* const buffer = kvc_buffer_create(cache, KVC_BUFFER_DEVICE, 5000, &error);
        REQUIRE(buffer != nullptr);
        Bytes sent(5000, 3), back(sent.size());
        CHECK(kvc_buffer_copy(cache, buffer, KVC_CUDA, sent.data(), KVC_CPU, 5000, nullptr) == KVC_OK);
        CHECK(kvc_buffer_copy(cache, back.data(), KVC_CPU, buffer, KVC_CUDA, 5000, nullptr) == KVC_OK);
        CHECK(back == sent);
        CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, buffer, nullptr) == KVC_OK);
        CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
        CHECK(holds_as_much(FakeDevice::get().counts(), before));
        CHECK(FakeDevice::get().counts().pools == before.pools);
    }
    const auto refusal = [&](const char* target) {
        std::strcpy(options.target, target);
        CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
        return error;
    };
    CHECK(refusal(",heap").status == KVC_E_ARGUMENT);
    CHECK(std::string(error.message) == "target \",heap\": behind the comma stands pool or pool=own");
    CHECK(refusal("scalar,pool").status == KVC_E_UNSUPPORTED);
    FakeDevice::get().set_pools(false);
    CHECK(refusal(",pool").status == KVC_E_UNSUPPORTED);
    CHECK(std::string(error.message).find("CUDA device 1 has no memory pools") != std::string::npos);
    FakeDevice::get().set_pools(true);
    options.device = KVC_CPU, options.device_ordinal = 0;
    CHECK(refusal(",pool").status == KVC_E_ARGUMENT);
    CHECK(FakeDevice::get().counts().strays == before.strays);
}

TEST_CASE("cuda devices: a cache on a pool gives what it gives without") {
    const Elsewhere elsewhere;
    for (const int64_t data : {1, 2}) {
        Course direct(1, data);
        while (direct.run_part()) {
        }
        for (const char* const target : {",pool", ",pool=own"}) {
            Course course(1, data, target);
            while (course.run_part()) {
            }
            CHECK(course.seen() == direct.seen());
        }
    }
}
