// Streams that callers capture while a cache is at work: kvc neither fails by captures of others' streams nor spoils them, and what cannot be
// served says so and changes nothing.
#include <functional>
#include <thread>

#include "tests/cuda/emulated_device.h"
#include "tests/cuda/graph_side.h"

using namespace kvc_graphs;
using kvc::cuda::CaptureMode;
using kvc::cuda::Selection;
using kvc::simt::FakeDevice;
using kvc_test::Order;
using kvc_test::used_device;
namespace runtime = kvc::cuda::runtime;

namespace {

const std::string codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3";

Setup small() { return {.codec = codec, .layers = 1, .counts = {1, 2}, .ordinal = used_device}; }

void fill(Side& side) {
    for (size_t b = 0; b < side.seqs.size(); b++) {
        side.add(b, 66 + int64_t(b), int64_t(b) + 1);
    }
}

// A stream that somebody captures as long as it lives.
class Captured {
public:
    explicit Captured(CaptureMode mode = CaptureMode::global) : stream_(*runtime::create_stream()) {
        REQUIRE(runtime::begin_capture(stream_, mode).ok());
    }
    ~Captured() { runtime::destroy_stream(stream_); }
    Captured(const Captured&) = delete;
    Captured& operator=(const Captured&) = delete;

    bool ends_well() {
        const auto graph = runtime::end_capture(stream_);
        if (graph.ok()) {
            runtime::destroy_graph(*graph);
        }
        return graph.ok();
    }

private:
    const Selection selection_{used_device};
    const kvc::cuda::Stream stream_;
};

// Whatever a cache may be asked: it makes, waits, allocates, reads and gives back.
void live_a_life() {
    Side side(small());
    fill(side);
    side.step();
    side.create_graph();
    side.step();
    side.stored();
    kvc_error error = {sizeof error, 0, ""};
    void* const pinned = kvc_buffer_create(side.cache, KVC_BUFFER_PINNED, 4096, &error);
    REQUIRE(pinned != nullptr);
    require(kvc_buffer_destroy(side.cache, KVC_BUFFER_PINNED, pinned, &error), error);
    require(kvc_seq_truncate(side.cache, side.seqs[1], 60, KVC_CUT_EXACT, &error), error);
    require(kvc_graph_destroy(side.graph, &error), error);
    require(kvc_synchronize(side.cache, &error), error);
}

kvc_status begin_status(const Side& side, kvc::cuda::Stream stream, std::string* message) {
    kvc_error error = {sizeof error, 0, ""};
    kvc_step_options o = side.options(false);
    o.stream = stream;
    kvc_step* const step =
        kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), int64_t(side.seqs.size()), nullptr, 0, &o, &error);
    *message = error.message;
    if (step) {
        require(kvc_step_abort(step, &error), error);
    }
    return step ? KVC_OK : kvc_status(error.status);
}

}  // namespace

TEST_CASE("cuda captures: a cache lives its life beside anybody's capture, in any thread, and spoils none") {
    for (const CaptureMode mode : {CaptureMode::global, CaptureMode::local, CaptureMode::relaxed}) {
        for (const uint64_t seed : {0, 7}) {
            for (const bool same_thread : {false, true}) {
                CAPTURE(int(mode));
                CAPTURE(seed);
                CAPTURE(same_thread);
                const Order order(seed);
                Captured captured(mode);
                const int64_t forbidden = FakeDevice::get().counts().forbidden;
                if (same_thread) {
                    live_a_life();
                } else {
                    std::thread(live_a_life).join();
                }
                CHECK(FakeDevice::get().counts().forbidden == forbidden);
                CHECK(captured.ends_well());
            }
        }
    }
}

TEST_CASE("cuda captures: a thread's own mode is after a call what it was before") {
    const Order order(0);
    for (const CaptureMode mode : {CaptureMode::local, CaptureMode::relaxed, CaptureMode::global}) {
        REQUIRE(runtime::exchange_capture_mode(mode).ok());
        Side side(small());
        CHECK(*runtime::exchange_capture_mode(mode) == mode);
        fill(side);
        side.step();
        kvc_error error = {sizeof error, 0, ""};
        CHECK(kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), -1, nullptr, 0, nullptr, &error) == nullptr);
        CHECK(*runtime::exchange_capture_mode(mode) == mode);
    }
}

TEST_CASE("cuda captures: a step on the legacy default stream while one that waits for it is captured is refused, and no more") {
    const Order order(3);
    Side side(small());
    fill(side);
    const Bytes stored = side.stored();
    FakeDevice::get().schedule.set_legacy(static_cast<kvc::simt::QueuedStream*>(side.stream));
    std::string message;
    {
        Captured captured;
        CHECK(begin_status(side, side.stream, &message) == KVC_E_CAPTURE);
        INFO(message);
        CHECK(message.find("legacy stream") != std::string::npos);
        CHECK(begin_status(side, nullptr, &message) == KVC_OK);
        CHECK(captured.ends_well());
    }
    FakeDevice::get().schedule.set_legacy(nullptr);
    CHECK(side.stored() == stored);
    Side plain(small());
    fill(plain);
    for (Side* const one : {&side, &plain}) {
        one->step();
    }
    CHECK(side.outputs() == plain.outputs());
}

TEST_CASE(
    "cuda captures: as long as the stream of an open step is captured its calls are refused, nothing is recorded, and then all goes "
    "on") {
    for (const bool replayed : {false, true}) {
        CAPTURE(replayed);
        const Order order(5);
        Side side(small()), plain(small());
        fill(side), fill(plain);
        side.create_graph();
        side.capture();
        side.upload(), plain.upload();
        kvc_step* const step = side.begin(replayed);
        if (replayed) {
            side.launch();
        } else {
            side.call_layers(step);
        }
        kvc_error error = {sizeof error, 0, ""};
        const Selection selection(used_device);
        REQUIRE(runtime::begin_capture(side.stream).ok());
        if (!replayed) {
            CHECK(side.attend_again(step, 0, &error) == KVC_E_CAPTURE);
        }
        for (const auto& call : {std::function([&] { return kvc_step_commit(step, nullptr, 0, &error); }),
                                 std::function([&] { return kvc_step_abort(step, &error); }),
                                 std::function([&] { return kvc_synchronize(side.cache, &error); })}) {
            error.message[0] = 0;
            CHECK(call() == KVC_E_CAPTURE);
            CHECK(std::string(error.message) == "step: its stream is being captured, and the step was begun before");
        }
        const auto graph = runtime::end_capture(side.stream);
        REQUIRE(graph.ok());
        const int64_t operations = FakeDevice::get().counts().operations + FakeDevice::get().counts().waiting;
        REQUIRE(runtime::launch(*graph, side.stream).ok());
        CHECK(FakeDevice::get().counts().operations + FakeDevice::get().counts().waiting == operations);
        runtime::destroy_graph(*graph);
        side.commit(step);
        kvc_step* const other = plain.begin(false);
        plain.call_layers(other);
        plain.commit(other);
        CHECK(side.outputs() == plain.outputs());
        CHECK(side.stored() == plain.stored());
    }
}

TEST_CASE("emulator: captures forbid to threads what CUDA's modes say") {
    const Order order(0);
    const Selection selection(used_device);
    const kvc::cuda::Stream stream = *runtime::create_stream();
    for (const CaptureMode captured : {CaptureMode::global, CaptureMode::local, CaptureMode::relaxed}) {
        for (const CaptureMode caller : {CaptureMode::global, CaptureMode::local, CaptureMode::relaxed}) {
            for (const bool own : {false, true}) {
                CAPTURE(int(captured));
                CAPTURE(int(caller));
                CAPTURE(own);
                const bool forbids =
                    caller != CaptureMode::relaxed &&
                    (own ? captured != CaptureMode::relaxed : caller == CaptureMode::global && captured == CaptureMode::global);
                REQUIRE(runtime::begin_capture(stream, captured).ok());
                const auto call = [&] {
                    const Selection there(used_device);
                    const CaptureMode before = *runtime::exchange_capture_mode(caller);
                    const kvc::Status status = runtime::synchronize_device();
                    CHECK(*runtime::exchange_capture_mode(before) == caller);
                    CHECK(status.code == (forbids ? kvc::Code::capture : kvc::Code::ok));
                };
                if (own) {
                    call();
                } else {
                    std::thread(call).join();
                }
                const auto graph = runtime::end_capture(stream);
                CHECK(graph.ok() != forbids);
                if (graph.ok()) {
                    runtime::destroy_graph(*graph);
                }
            }
        }
    }
    runtime::destroy_stream(stream);
}
