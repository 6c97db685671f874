// What graphs refuse, and that a refusal changes nothing; failures, and the order in which things are destroyed.
#include <functional>

#include "tests/cuda/emulated_device.h"
#include "tests/cuda/graph_side.h"

using namespace kvc_graphs;
using kvc::simt::FakeDevice;
using kvc_test::Order;
using kvc_test::used_device;
namespace runtime = kvc::cuda::runtime;

namespace {

const std::string codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3";

Setup small(std::vector<int64_t> counts = {1, 2}) {
    return {.codec = codec, .layers = 1, .counts = std::move(counts), .ordinal = used_device};
}

// A side with two sequences, and a graph that has captured its step.
struct Captured : Side {
    explicit Captured(const Setup& given) : Side(given) {
        for (size_t b = 0; b < seqs.size(); b++) {
            add(b, 66 + int64_t(b), int64_t(b) + 1);
        }
        create_graph();
        capture();
    }
};

struct Refusal {
    kvc_status status;
    std::string message;
};

Refusal refused_begin(Side& side, const kvc_step_options& o, const std::vector<int64_t>& counts) {
    kvc_error error = {sizeof error, 0, ""};
    kvc_step* const step = kvc_step_begin(side.cache, side.seqs.data(), counts.data(), int64_t(counts.size()), nullptr, 0, &o, &error);
    CHECK(step == nullptr);
    return {kvc_status(error.status), error.message};
}

void end_unused_capture(const Side& side) {
    const auto captured = runtime::end_capture(side.stream);
    REQUIRE(captured.ok());
    runtime::destroy_graph(*captured);
}

bool says(const Refusal& refusal, kvc_status status, const std::string& part) {
    INFO(refusal.message);
    CHECK(refusal.message.find(part) != std::string::npos);
    CHECK(refusal.status == status);
    return refusal.status == status && refusal.message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("cuda graphs: a replay that is not as captured is refused and changes nothing") {
    const Order order(1);
    Captured side(small());
    const Bytes stored = side.stored();
    const std::string stats = side.stats();
    const auto with = [&](const std::function<void(kvc_step_options&)>& change) {
        kvc_step_options o = side.options(true);
        change(o);
        return refused_begin(side, o, side.setup.counts);
    };
    const FakeDevice::Counts before = FakeDevice::get().counts();
    CHECK(says(refused_begin(side, side.options(true), {1}), KVC_E_CAPTURE, "1 sequences, and the graph is for 2"));
    CHECK(says(refused_begin(side, side.options(true), {2, 2}), KVC_E_CAPTURE, "2 tokens of entry 0, and the graph is for 1"));
    CHECK(says(with([](auto& o) { o.q_dtype = KVC_F16; }), KVC_E_CAPTURE, "q or out differ"));
    CHECK(says(with([](auto& o) { o.kv_dtype = KVC_BF16; }), KVC_E_CAPTURE, "k or v differ"));
    CHECK(says(with([](auto& o) { o.out_token_stride = 1000; }), KVC_E_CAPTURE, "q or out differ"));
    CHECK(says(with([](auto& o) { o.strict = 1; }), KVC_E_CAPTURE, "strict differs"));
    CHECK(says(with([](auto& o) { o.partial_commit = 1; }), KVC_E_CAPTURE, "partial_commit differs"));
    CHECK(says(with([](auto& o) { o.accumulate = 1; }), KVC_E_UNSUPPORTED, "attention mass"));
    CHECK(says(with([](auto& o) { o.buffers = KVC_CPU; }), KVC_E_ARGUMENT, "buffers of a graph lie on the device"));
    CHECK(says(with([](auto& o) { o.stream = nullptr; }), KVC_E_ARGUMENT, "needs the stream"));
    kvc_error error = {sizeof error, 0, ""};
    const kvc_step_options o = side.options(true);
    const int64_t elsewhere[] = {66, 68};
    CHECK(kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), 2, elsewhere, 2, &o, &error) == nullptr);
    CHECK(says({kvc_status(error.status), error.message}, KVC_E_ARGUMENT, "is at position 67, not at 68"));
    CHECK(FakeDevice::get().counts().calls == before.calls);
    CHECK(side.stored() == stored);
    CHECK(side.stats() == stats);
    side.replay();
}

TEST_CASE("cuda graphs: sequences that the graph is not for are refused") {
    const Order order(1);
    Captured side([] {
        Setup setup = small();
        setup.max_tokens = 80;
        return setup;
    }());
    kvc_error error = {sizeof error, 0, ""};
    const auto refused = [&] { return refused_begin(side, side.options(true), side.setup.counts); };
    side.add(1, 78, 2);
    side.replay();
    CHECK(says(refused(), KVC_E_CAPTURE, "would have 82 tokens, and the graph is for 80"));
    side.add(1, 20, 5);
    require(kvc_seq_prompt_set(side.cache, side.seqs[1], 21, &error), error);
    CHECK(says(refused(), KVC_E_CAPTURE, "of the prompt class"));
    require(kvc_seq_prompt_set(side.cache, side.seqs[1], 20, &error), error);
    side.replay();
    const std::vector<float> logits(size_t(side.setup.q_heads), 1.0f);
    require(kvc_sink_logits_set(side.cache, 0, logits.data(), side.setup.q_heads, &error), error);
    CHECK(says(refused(), KVC_E_CAPTURE, "layer 0 had no sink logits when it was captured"));
    require(kvc_sink_logits_set(side.cache, 0, nullptr, 0, &error), error);
    side.add(0, 74, 5);
    std::vector<int32_t> clusters;
    for (int i = 0; i < 2 * 74; i++) {
        clusters.push_back(i % 74 == 20 ? 21 : i % 74);
    }
    require(kvc_merge(side.cache, side.seqs[0], clusters.data(), int64_t(clusters.size()), nullptr, nullptr, &error), error);
    CHECK(says(refused(), KVC_E_CAPTURE, "merged tokens"));
    side.add(0, 66, 5);
    side.replay();
    kvc_step* const step = side.begin(false);
    CHECK(says(refused(), KVC_E_BUSY, "belongs to an open step"));
    require(kvc_step_abort(step, &error), error);
}

TEST_CASE("cuda graphs: steps with the graph in the wrong place or order") {
    const Order order(1);
    Captured side(small());
    kvc_error error = {sizeof error, 0, ""};
    char buffer[8192] = {};
    {
        kvc_step* const step = side.begin(true);
        CHECK(kvc_append(step, 0, buffer, sizeof buffer, buffer, sizeof buffer, &error) == KVC_E_ORDER);
        CHECK(kvc_attend(step, 0, buffer, sizeof buffer, buffer, sizeof buffer, nullptr, 0, nullptr, &error) == KVC_E_ORDER);
        CHECK(std::string(error.message) == "attend: the step replays a graph, which holds its calls");
        CHECK(says(refused_begin(side, side.options(true), side.setup.counts), KVC_E_BUSY, "open step"));
        CHECK(kvc_graph_destroy(side.graph, &error) == KVC_E_BUSY);
        side.launch();
        side.commit(step);
    }
    Side other(small());
    other.add(0, 1, 1), other.add(1, 1, 1);
    other.graph = side.graph;
    CHECK(says(refused_begin(other, other.options(true), other.setup.counts), KVC_E_ARGUMENT, "of another cache"));
    other.create_graph();
    CHECK(says(refused_begin(other, other.options(true), other.setup.counts), KVC_E_CAPTURE, "holds no captured step"));
    const kvc::cuda::Selection selection(used_device);
    REQUIRE(runtime::begin_capture(other.stream).ok());
    CHECK(says(refused_begin(other, other.options(false), other.setup.counts), KVC_E_CAPTURE, "names no graph"));
    // A capture that ends without its commit leaves the graph as it was.
    kvc_step* const step = other.begin(true);
    CHECK(kvc_step_commit(step, nullptr, 0, &error) == KVC_E_ORDER);
    require(kvc_step_abort(step, &error), error);
    end_unused_capture(other);
    CHECK(says(refused_begin(other, other.options(true), other.setup.counts), KVC_E_CAPTURE, "holds no captured step"));
    other.capture();
    other.replay();
}

TEST_CASE("cuda graphs: more attends than the graph was created for are refused, as many are served") {
    const Order order(1);
    for (const int64_t attends : {2, 3}) {
        Setup setup = small();
        setup.attends = attends;
        setup.layers = 2;
        Side side(setup);
        side.add(0, 5, 1), side.add(1, 70, 2);
        side.create_graph();
        const kvc::cuda::Selection selection(used_device);
        REQUIRE(runtime::begin_capture(side.stream).ok());
        kvc_step* const step = side.begin(true);
        side.call_layers(step);
        kvc_error error = {sizeof error, 0, ""};
        const kvc_status more = side.attend_again(step, 0, &error);
        CHECK(more == (attends == 2 ? KVC_E_CAPTURE : KVC_OK));
        CHECK((attends == 2) == (std::string(error.message) == "graph: it was created for 2 attends in a step, and this is one more"));
        side.commit(step);
        const auto captured = runtime::end_capture(side.stream);
        REQUIRE(captured.ok());
        side.launches = *captured;
        side.replay();
    }
}

TEST_CASE("cuda graphs: as many replays as there are slots may be on their way; the next is told to come again") {
    for (const int64_t slots : {1, 3}) {
        CAPTURE(slots);
        const Order order(9);
        Setup setup = small();
        setup.slots = slots;
        Captured side(setup);
        side.upload();
        kvc_error error = {sizeof error, 0, ""};
        require(kvc_synchronize(side.cache, &error), error);
        FakeDevice::get().hold(true);
        for (int64_t i = 0; i < slots; i++) {
            kvc_step* const step = side.begin(true);
            side.launch();
            side.commit(step);
        }
        const std::string stats = side.stats();
        const Refusal refusal = refused_begin(side, side.options(true), setup.counts);
        CHECK(says(refusal, KVC_E_AGAIN, std::to_string(slots) + " steps of the graph are still on their way"));
        CHECK(side.stats() == stats);
        FakeDevice::get().hold(false);
        require(kvc_synchronize(side.cache, &error), error);
        side.replay();
    }
}

TEST_CASE("cuda graphs: what no graph can hold is refused at its creation") {
    const Order order(1);
    kvc_error error = {sizeof error, 0, ""};
    const auto refusal = [&](const Setup& setup, std::vector<int64_t> counts, int64_t max_tokens, int64_t attends, int64_t slots) {
        Side side(setup);
        CHECK(kvc_graph_create(side.cache, counts.data(), int64_t(counts.size()), max_tokens, attends, slots, &error) == nullptr);
        return Refusal{kvc_status(error.status), error.message};
    };
    const Setup plain = small();
    CHECK(says(refusal(plain, {1, -1}, 100, 0, 0), KVC_E_ARGUMENT, "token count -1 is out of range (0 .. 100)"));
    CHECK(says(refusal(plain, {1, 101}, 100, 0, 0), KVC_E_ARGUMENT, "token count 101"));
    CHECK(says(refusal(plain, {0, 0}, 100, 0, 0), KVC_E_ARGUMENT, "a step of no tokens"));
    CHECK(says(refusal(plain, {1}, 0, 0, 0), KVC_E_ARGUMENT, "max_tokens 0"));
    CHECK(says(refusal(plain, {1}, 100, -1, 0), KVC_E_ARGUMENT, "attends -1"));
    CHECK(says(refusal(plain, {1}, 100, 0, 65), KVC_E_ARGUMENT, "slots 65 is out of range (0 .. 64)"));
    CHECK(says(refusal(plain, {int64_t{1} << 40}, int64_t{1} << 40, 0, 0), KVC_E_NO_MEMORY, "2^63"));
    Setup other = small();
    other.policy = "h2o:100";
    CHECK(says(refusal(other, {1}, 100, 0, 0), KVC_E_UNSUPPORTED, "policy h2o needs attention mass"));
    other.policy = "key_norm:100,merge=values";
    CHECK(says(refusal(other, {1}, 100, 0, 0), KVC_E_UNSUPPORTED, "policy key_norm merges tokens"));
    other.policy = "";
    other.in_cache = true;
    CHECK(says(refusal(other, {1}, 100, 0, 0), KVC_E_UNSUPPORTED, "in-cache positions of keys after RoPE"));
}

TEST_CASE("cuda graphs: refused memory leaves nothing behind") {
    const Order order(1);
    int64_t n = 1, of_memory = 0;
    for (bool made = false; !made && n < 100; n++) {
        CAPTURE(n);
        Side side(small());  // no step has left memory that could be had instead
        kvc_error error = {sizeof error, 0, ""};
        const FakeDevice::Counts before = FakeDevice::get().counts();
        FakeDevice::get().fail_call_in(n);
        side.graph = kvc_graph_create(side.cache, side.setup.counts.data(), 2, 100, 0, 0, &error);
        made = side.graph != nullptr;
        FakeDevice::get().heal();
        if (made) {
            break;
        }
        CHECK(FakeDevice::get().counts().blocks == before.blocks);
        CHECK(FakeDevice::get().counts().pinned_blocks == before.pinned_blocks);
        if (error.status == KVC_E_NO_MEMORY) {
            of_memory++;
            side.add(0, 66, 1), side.add(1, 5, 2);
            side.create_graph();
            side.capture();
            side.replay();
        } else {
            CHECK(error.status == KVC_E_DEVICE);  // of an event that cannot be made: the cache is lost
        }
    }
    CHECK(of_memory == 6);
    CHECK(n > 70);
}

TEST_CASE("cuda graphs: a device that fails in a replay costs the cache, as in any step") {
    const Order order(1);
    kvc_error error = {sizeof error, 0, ""};
    for (int64_t n = 1; n < 30; n++) {
        CAPTURE(n);
        Captured side(small());
        const kvc_step_options o = side.options(true);
        const int64_t calls = FakeDevice::get().counts().calls;
        FakeDevice::get().fail_call_in(n);
        kvc_step* const step = kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), 2, nullptr, 0, &o, &error);
        FakeDevice::get().fail_call_in(0);
        if (step) {
            require(kvc_step_abort(step, &error), error);
            if (FakeDevice::get().counts().calls - calls < n) {
                CHECK(n > 6);
                break;
            }
            side.replay();  // memory that an ended step had left was had instead
            continue;
        }
        if (error.status == KVC_E_NO_MEMORY) {
            side.replay();
            continue;
        }
        CHECK(error.status == KVC_E_DEVICE);
        CHECK(kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), 2, nullptr, 0, &o, &error) == nullptr);
        CHECK(error.status == KVC_E_DEVICE);
        CHECK(kvc_graph_destroy(side.graph, &error) == KVC_OK);
        FakeDevice::get().heal();
    }
}

TEST_CASE("cuda graphs: handles are checked, and everything may go in any order") {
    const Order order(1);
    kvc_error error = {sizeof error, 0, ""};
    CHECK(kvc_graph_destroy(nullptr, &error) == KVC_E_HANDLE);
    CHECK(kvc_graph_create(nullptr, nullptr, 0, 1, 0, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_HANDLE);
    const FakeDevice::Counts before = FakeDevice::get().counts();
    {
        Captured side(small());
        side.replay();
        require(kvc_graph_destroy(side.graph, &error), error);  // with launches on their way
        CHECK(kvc_graph_destroy(side.graph, &error) == KVC_E_HANDLE);
        CHECK(says(refused_begin(side, side.options(true), side.setup.counts), KVC_E_HANDLE, "not a live graph"));
        side.step();
        side.create_graph();
        side.capture();
        side.replay();
    }
    {
        Captured side(small());
        (void)side.begin(true);  // goes with the cache, and so does the graph
    }
    {
        Captured side(small());
        const kvc::cuda::Selection selection(used_device);
        REQUIRE(runtime::begin_capture(side.stream).ok());
        (void)side.begin(true);
        end_unused_capture(side);
    }
    const FakeDevice::Counts after = FakeDevice::get().counts();
    CHECK(after.blocks == before.blocks);
    CHECK(after.pinned_blocks == before.pinned_blocks);
}

TEST_CASE("cuda graphs: a token that cannot be stored is told later, as of ordinary steps") {
    const Order order(8);
    Captured side(small({1, 1}));
    side.upload();
    side.spoil(1);
    kvc_step* const step = side.begin(true);
    side.launch();
    side.commit(step);
    kvc_error error = {sizeof error, 0, ""};
    require(kvc_synchronize(side.cache, &error), error);
    int64_t length = 0;
    CHECK(kvc_seq_length(side.cache, side.seqs[0], &length, &error) == KVC_OK);
    CHECK(kvc_seq_length(side.cache, side.seqs[1], &length, &error) == KVC_E_NONFINITE);
    require(kvc_seq_truncate(side.cache, side.seqs[1], 67, KVC_CUT_EXACT, &error), error);
    side.replay();
    CHECK(kvc_seq_length(side.cache, side.seqs[1], &length, &error) == KVC_OK);
}

TEST_CASE("emulator: a capture records, forbids what CUDA's global mode does, and is lost by it") {
    const Order order(0);
    const kvc::cuda::Selection selection(used_device);
    const kvc::cuda::Stream stream = *runtime::create_stream(), other = *runtime::create_stream();
    const kvc::cuda::Event event = *runtime::create_event();
    std::byte* const block = *runtime::allocate(64);
    std::byte* const spare = *runtime::allocate(64);
    const auto first_byte = [&] {
        std::byte byte{};
        FakeDevice::get().peek(block, 1, &byte);
        return byte;
    };
    REQUIRE(runtime::begin_capture(stream).ok());
    CHECK(*runtime::is_capturing(stream));
    CHECK(!*runtime::is_capturing(other));
    CHECK(runtime::fill(block, 7, 64, stream).ok());
    CHECK(runtime::record(event, other).ok());
    const auto graph = runtime::end_capture(stream);
    REQUIRE(graph.ok());
    CHECK(first_byte() == std::byte{0xff});
    CHECK(runtime::launch(*graph, stream).ok());
    CHECK(first_byte() == std::byte{7});
    CHECK(runtime::fill(block, 9, 64, stream).ok());
    CHECK(runtime::launch(*graph, other).ok());
    CHECK(first_byte() == std::byte{7});
    runtime::destroy_graph(*graph);
    const std::function<bool()> forbidden[] = {
        [&] { return runtime::allocate(64).ok(); },          [&] { return runtime::allocate_pinned(64).ok(); },
        [&] { return runtime::synchronize(other).ok(); },    [&] { return runtime::synchronize_device().ok(); },
        [&] { return runtime::synchronize(event).ok(); },    [&] { return runtime::done(event).ok(); },
        [&] { return runtime::record(event, stream).ok(); }, [&] { return runtime::wait(stream, event).ok(); },
        [&] { return runtime::release(spare), false; },
    };
    for (const auto& call : forbidden) {
        const int64_t before = FakeDevice::get().counts().forbidden;
        REQUIRE(runtime::begin_capture(stream).ok());
        CHECK(!call());
        CHECK(FakeDevice::get().counts().forbidden == before + 1);
        CHECK(!runtime::end_capture(stream).ok());
        FakeDevice::get().heal();
    }
    runtime::release(block);
    runtime::destroy_event(event);
    runtime::destroy_stream(stream);
    runtime::destroy_stream(other);
}
