// Several devices: what is of one and named under another is refused by the emulated runtime, and the backend never names it.
#include <csignal>
#include <cstdlib>
#include <doctest/doctest.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "tests/cuda/device_rig.h"
#include "tests/cuda/emulated_device.h"

using namespace kvc_test;
using kvc::Status;
using kvc::cuda::Event;
using kvc::cuda::Selection;
using kvc::cuda::Stream;
using kvc::simt::FakeDevice;
namespace runtime = kvc::cuda::runtime;

namespace {

constexpr int64_t bytes = 256;

// One of everything, of a device.
struct Belongings {
    explicit Belongings(int ordinal) : device(ordinal) {
        const Selection selection(device);
        stream = *runtime::create_stream();
        event = *runtime::create_event();
        block = *runtime::allocate(bytes);
        pinned = *runtime::allocate_pinned(bytes);
    }
    ~Belongings() {
        const Selection selection(device);
        runtime::destroy_stream(stream);
        runtime::destroy_event(event);
        runtime::release(block);
        runtime::release_pinned(pinned);
    }
    Belongings(const Belongings&) = delete;
    Belongings& operator=(const Belongings&) = delete;

    const int device;
    Stream stream;
    Event event;
    std::byte *block, *pinned;
};

void launch(Stream stream, const std::function<void()>& kernel) { stream->launch(1, 1, 32, kernel, 0); }

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

bool is_refused(const Status& status) {
    return status.code == kvc::Code::device && contains(status.message, "invalid resource handle");
}

// What a call that cannot fail leaves for the next one to say.
bool leaves(const char* part, const std::function<void()>& body) {
    body();
    const Status next = runtime::synchronize_device();
    FakeDevice::get().heal();
    return next.code == kvc::Code::device && contains(next.message, part);
}

// Whether a process that does this comes to a bad end.
bool dies(const std::function<void()>& body) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);
        close(STDOUT_FILENO), close(STDERR_FILENO);
        body();
        std::_Exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

int64_t strays() { return FakeDevice::get().counts().strays; }

struct Held {
    int64_t blocks, pinned_blocks;
    bool operator==(const Held&) const = default;
};
Held held_by(int ordinal) {
    const FakeDevice::Counts counts = FakeDevice::get().counts_of(ordinal);
    return {counts.blocks, counts.pinned_blocks};
}

void require(const Status& status) { REQUIRE_MESSAGE(status.ok(), status.message); }

// A step of the rig, and whether it gave what the table gives.
void step(Rig& rig, int64_t tokens) {
    rig.plan(tokens);
    require(rig.run());
    require(rig.fetch());
    rig.check_outputs();
}

constexpr int64_t course[] = {60, 64, 64, 1, 1, 30};

}  // namespace

TEST_CASE("devices: a thread selects for itself, begins with the first, and cannot select what there is not") {
    const Elsewhere elsewhere;
    int begins = -1, ends = -1;
    std::thread([&] {
        begins = runtime::selected();
        ends = runtime::select(1).ok() ? runtime::selected() : -1;
    }).join();
    CHECK(begins == 0);
    CHECK(ends == 1);
    CHECK(runtime::selected() == Elsewhere::ordinal);
    for (const int ordinal : {-1, 3}) {
        CHECK(runtime::select(ordinal).code == kvc::Code::device);
        CHECK(!runtime::properties(ordinal).ok());
        CHECK(runtime::selected() == Elsewhere::ordinal);
    }
}

TEST_CASE("devices: the emulated runtime refuses calls on what is another device's, and runs nothing of them") {
    const Belongings own(0), other(1);
    const FakeDevice::Counts before = FakeDevice::get().counts();
    CHECK(is_refused(runtime::copy_in(other.block, other.pinned, bytes, other.stream)));
    CHECK(is_refused(runtime::copy_out(other.pinned, other.block, bytes, other.stream)));
    CHECK(is_refused(runtime::copy(other.block, other.block, bytes, other.stream)));
    CHECK(is_refused(runtime::fill(other.block, 0, bytes, other.stream)));
    CHECK(is_refused(runtime::record(other.event, other.stream)));
    CHECK(is_refused(runtime::record(other.event, own.stream)));
    CHECK(is_refused(runtime::record(own.event, other.stream)));
    CHECK(is_refused(runtime::wait(other.stream, own.event)));
    CHECK(is_refused(runtime::synchronize(other.stream)));
    CHECK(is_refused(runtime::synchronize(other.event)));
    CHECK(is_refused(runtime::done(other.event).status()));
    bool ran = false;
    launch(other.stream, [&] { ran = true; });
    // What went wrong with a thread's launches is told to that thread, once.
    std::thread([] { CHECK(runtime::launched().ok()); }).join();
    CHECK(is_refused(runtime::launched()));
    CHECK(runtime::launched().ok());
    require(runtime::synchronize_device());
    CHECK(!ran);
    CHECK(FakeDevice::get().counts().operations == before.operations);
    CHECK(strays() == before.strays + 12);
    // Not refused: an event of another device, and memory of the host that was pinned under it.
    CHECK(runtime::wait(own.stream, other.event).ok());
    CHECK(runtime::copy_in(own.block, other.pinned, bytes, own.stream).ok());
}

TEST_CASE("devices: memory of another device in a copy, and what is given back under another, leaves a fault") {
    const Belongings own(0), other(1);
    const char* const range = "a range that is not of the";
    CHECK(leaves(range, [&] { return runtime::copy_in(other.block, own.pinned, bytes, own.stream); }));
    CHECK(leaves(range, [&] { return runtime::copy_out(own.pinned, other.block, bytes, own.stream); }));
    CHECK(leaves(range, [&] { return runtime::copy(own.block, other.block, bytes, own.stream); }));
    CHECK(leaves(range, [&] { return runtime::copy(other.block, own.block, bytes, own.stream); }));
    CHECK(leaves(range, [&] { return runtime::fill(other.block, 0, bytes, own.stream); }));
    Stream stream = nullptr;
    Event event = nullptr;
    std::byte *block = nullptr, *pinned = nullptr;
    {
        const Selection selection(1);
        stream = *runtime::create_stream();
        event = *runtime::create_event();
        block = *runtime::allocate(bytes);
        pinned = *runtime::allocate_pinned(bytes);
    }
    CHECK(leaves("of a stream of another device", [&] { runtime::destroy_stream(stream); }));
    CHECK(leaves("of an event of another device", [&] { runtime::destroy_event(event); }));
    CHECK(leaves("of memory of another device", [&] { runtime::release(block); }));
    CHECK(leaves("of pinned memory of another device", [&] { runtime::release_pinned(pinned); }));
    CHECK(held_by(1) == Held{1, 1});  // they are gone all the same
}

TEST_CASE("devices: a stream waits for an event of another device") {
    for (uint64_t seed = 0; seed < 20; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        const Belongings own(0), other(1);
        int clock = 0, first = 0, second = 0;
        {
            const Selection selection(1);
            launch(other.stream, [&] { first = first ? first : ++clock; });
            require(runtime::record(other.event, other.stream));
        }
        require(runtime::wait(own.stream, other.event));
        launch(own.stream, [&] { second = second ? second : ++clock; });
        require(runtime::synchronize_device());
        CHECK(first == 1);
        CHECK(second == 2);
    }
}

TEST_CASE("devices: a kernel that touches memory of another device ends the process") {
    const Belongings own(0), other(1);
    for (const bool writes : {false, true}) {
        const auto touch = [&](std::byte* block) {
            volatile std::byte* const at = block;
            launch(own.stream, [=] {
                const std::byte found = *at;
                if (writes) {
                    *at = found;
                }
            });
            (void)runtime::synchronize_device().ok();
        };
        CHECK(!dies([&] { touch(own.block); }));
        CHECK(dies([&] { touch(other.block); }));
    }
}

TEST_CASE("devices: steps on two devices, in turn and by two threads, are the table's bit for bit, and leave nothing behind") {
    const Elsewhere elsewhere;
    const Held before[] = {held_by(0), held_by(1), held_by(2)};
    for (const uint64_t seed : {0, 3, 4}) {
        INFO("seed ", seed);
        const Order order(seed);
        {
            const auto first = open(0), second = open(1);
            Rig a(first, {.device_buffers = seed == 3, .prompt_class = true, .mass = true}, 1);
            Rig b(second, {.codec = "fp16", .sequences = 3, .device_buffers = seed == 4}, 2);
            for (const int64_t tokens : course) {
                step(a, tokens);
                CHECK(runtime::selected() == Elsewhere::ordinal);
                step(b, tokens);
                CHECK(runtime::selected() == Elsewhere::ordinal);
            }
            const auto go_on = [](Rig* rig, int selected) {
                require(runtime::select(selected));
                for (const int64_t tokens : course) {
                    step(*rig, tokens);
                    CHECK(runtime::selected() == selected);
                }
            };
            std::thread other(go_on, &a, 1);
            go_on(&b, Elsewhere::ordinal);
            other.join();
            a.check_records();
            b.check_records();
            CHECK(held_by(0).blocks > before[0].blocks);
            CHECK(held_by(1).blocks > before[1].blocks);
            CHECK(held_by(2) == before[2]);
        }
        CHECK(held_by(0) == before[0]);
        CHECK(held_by(1) == before[1]);
        CHECK(runtime::selected() == Elsewhere::ordinal);
    }
}

TEST_CASE("devices: where a device cannot be selected, a call for memory says so and has done nothing on another") {
    const Elsewhere elsewhere;
    const Order order(0);
    const auto device = open(1);
    std::vector<std::byte> host(bytes);
    std::byte* const block = device->allocate(bytes);
    std::vector<kvc::BadStore> bad;
    const Held before[] = {held_by(1), held_by(2)};
    const auto failing = [&](const auto& call) {
        FakeDevice::get().fail_select_in(1);
        auto result = call();
        FakeDevice::get().fail_select_in(0);
        return result;
    };
    CHECK(failing([&] { return device->allocate(bytes); }) == nullptr);
    CHECK(failing([&] { return device->allocate_pinned(bytes); }) == nullptr);
    const char* const reason = "selecting the device";
    CHECK(contains(failing([&] { return device->write(block, host.data(), bytes); }).message, reason));
    CHECK(contains(failing([&] { return device->read(block, host.data(), bytes); }).message, reason));
    CHECK(contains(failing([&] { return device->copy(block, block, bytes); }).message, reason));
    CHECK(contains(failing([&] { return device->synchronize(&bad); }).message, reason));
    CHECK(contains(failing([&] { return device->begin({}); }).status().message, reason));
    CHECK(contains(failing([&] { return kvc::open_device(1); }).status().message, reason));
    CHECK(held_by(1) == before[0]);
    CHECK(held_by(2) == before[1]);
    // None of it is for good.
    require(device->write(block, host.data(), bytes));
    require(device->synchronize(&bad));
    device->release(block);
}

TEST_CASE("devices: where a device cannot be selected in a step, the step or what waits for it says so") {
    const Elsewhere elsewhere;
    const Held before[] = {held_by(1), held_by(2)};
    int64_t failures = 0;
    bool failed = true;
    // Every other selection is that of what was selected before: nobody hears of one that fails, and the next call puts it right.
    for (int64_t n = 1; failed; n += 2) {
        INFO("selection ", n);
        {
            const Order order(uint64_t(n % 5));
            const auto device = open(1);
            Rig rig(device, {.sequences = 1, .heads = 1, .group = 1, .mass = true});
            rig.plan(1);
            FakeDevice::get().fail_select_in(n);
            const Status status = rig.run();
            rig.end();
            std::vector<kvc::BadStore> bad;
            const Status end = device->synchronize(&bad);
            FakeDevice::get().fail_select_in(0);
            failed = !status.ok() || !end.ok();
            failures += failed;
            CHECK(runtime::selected() == Elsewhere::ordinal);
        }
        CHECK(held_by(1) == before[0]);
        CHECK(held_by(2) == before[1]);
        REQUIRE(n < 100);
    }
    CHECK(failures > 8);  // begin, three inputs, store, attend, finish, what is delivered, end, synchronize
}

TEST_CASE("devices: a step on a stream of another device is refused, and the device serves on") {
    const Elsewhere elsewhere;
    const Order order(3);
    const Belongings other(0);
    Rig rig(open(1), {.device_buffers = true});
    rig.plan(5);
    const Status refused = rig.run(other.stream);
    CHECK(refused.code == kvc::Code::argument);
    CHECK(refused.message == "step: the stream is of CUDA device 0, and the cache of device 1");
    require(rig.run());
    require(rig.fetch());
    rig.check_outputs();
}
