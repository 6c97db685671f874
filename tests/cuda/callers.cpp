// Caches on devices whose memory comes from the caller's own functions.
#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "tests/cuda/callers_memory.h"
#include "tests/cuda/emulated_device.h"
#include "tests/cuda/graph_side.h"

using namespace kvc_graphs;
using kvc::simt::FakeDevice;
using kvc_test::CallersMemory;
using kvc_test::Order;
using kvc_test::used_device;
using Refusal = CallersMemory::Refusal;

namespace {

const std::string codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", policy = "key_norm:80,every=never";

int64_t blocks_on(int ordinal) { return FakeDevice::get().counts_of(ordinal).blocks; }

// Of two layers of two heads: every second of the older tokens joins the next one.
std::vector<int32_t> clusters_of(int64_t length) {
    std::vector<int32_t> clusters;
    for (int64_t i = 0; i < 4 * length; i++) {
        const int64_t token = i % length;
        clusters.push_back(int32_t(token > 10 && token < 50 && token % 2 == 0 ? token + 1 : token));
    }
    return clusters;
}

// What a cache gives that takes part in all that asks for memory: buffers, steps, graphs, evictions and merges.
Bytes course(const Setup& setup, const std::function<void()>& after_each) {
    kvc_error error = {sizeof error, 0, ""};
    Side side(setup);
    Bytes seen;
    const auto see = [&](const Bytes& bytes) {
        seen.insert(seen.end(), bytes.begin(), bytes.end());
        after_each();
    };
    for (size_t b = 0; b < side.seqs.size(); b++) {
        side.add(b, 90 + int64_t(b), int64_t(b) + 1);
    }
    side.step();
    see(side.outputs());
    side.create_graph();
    side.capture();
    side.replay();
    see(side.outputs());
    require(kvc_graph_destroy(side.graph, &error), error);  // with launches on their way
    side.step();
    see(side.outputs());
    require(kvc_evict(side.cache, side.seqs[0], nullptr, 0, nullptr, nullptr, &error), error);
    int64_t length = 0;
    require(kvc_seq_length(side.cache, side.seqs[1], &length, &error), error);
    const std::vector<int32_t> clusters = clusters_of(length);
    require(kvc_merge(side.cache, side.seqs[1], clusters.data(), int64_t(clusters.size()), nullptr, nullptr, &error), error);
    side.step();
    see(side.outputs());
    require(kvc_synchronize(side.cache, &error), error);
    see(side.stored());
    return seen;
}

}  // namespace

TEST_CASE("callers' memory: all that a device holds comes from it, and goes back once nothing that was queued uses it") {
    for (uint64_t seed = 0; seed < 4; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        Setup setup = {.codec = codec, .policy = policy, .counts = {1, 2}, .ordinal = used_device};
        const int64_t before = blocks_on(used_device);
        const Bytes expected = course(setup, [] {});
        CallersMemory memory(used_device);
        setup.memory = memory.source();
        int64_t most = 0;
        const Bytes seen = course(setup, [&] {
            CHECK(blocks_on(used_device) == before + memory.live());
            most = std::max(most, memory.live());
        });
        CHECK(seen == expected);
        CHECK(most > 20);
        CHECK(memory.given() > most);  // some went back before the end
        CHECK(memory.live() == 0);
        CHECK(memory.early() == 0);
        CHECK(blocks_on(used_device) == before);
    }
}

namespace {

// Appends to a cache in that block until it has no room, and gives the number of tokens.
int64_t fill(void* block, int64_t bytes) {
    kvc_error error = {sizeof error, 0, ""};
    kvc_options o;
    kvc_options_init(&o, sizeof o);
    o.device = KVC_CUDA, o.device_ordinal = used_device;
    o.layers = 1, o.kv_heads = 1, o.k_dim = 64;
    o.arena_block = block, o.arena_bytes = bytes;
    std::strcpy(o.codec, "fp16");
    kvc_cache* const cache = kvc_create(&o, nullptr, 0, &error);
    INFO(error.message);
    REQUIRE(cache != nullptr);
    const kvc_seq seq = kvc_seq_create(cache, nullptr, &error);
    const std::vector<float> rows(64 * 64, 1.0f);
    const int64_t count = 64, size = int64_t(rows.size() * sizeof(float));
    while (kvc_step* const step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error)) {
        require(kvc_append(step, 0, rows.data(), size, rows.data(), size, &error), error);
        require(kvc_step_commit(step, nullptr, 0, &error), error);
    }
    CHECK(error.status == KVC_E_NO_MEMORY);
    int64_t length = 0;
    require(kvc_seq_length(cache, seq, &length, &error), error);
    require(kvc_destroy(cache, &error), error);
    return length;
}

}  // namespace

TEST_CASE("callers' memory: in an arena block of the caller's a cache gives what it gives in its own, and leaves all around it alone") {
    constexpr int64_t arena = 4 << 20, around = 4096;
    for (uint64_t seed = 0; seed < 2; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        Setup setup = {.codec = codec, .policy = policy, .counts = {1, 2}, .ordinal = used_device};
        const Bytes expected = course(setup, [] {});
        std::byte* whole = nullptr;
        FakeDevice::get().run([&] { whole = FakeDevice::get().memory(used_device).allocate(arena + 2 * around); });
        setup.arena_block = whole + around, setup.arena_bytes = arena;
        Bytes before(arena + 2 * around), after(before.size());
        FakeDevice::get().peek(whole, int64_t(before.size()), before.data());
        CHECK(course(setup, [] {}) == expected);
        // Up to both ends of it: a token takes 256 bytes.
        CHECK(fill(setup.arena_block, 1 << 20) == (1 << 20) / 256);
        CHECK(fill(whole + around + arena - (1 << 20), 1 << 20) == (1 << 20) / 256);
        FakeDevice::get().peek(whole, int64_t(after.size()), after.data());
        CHECK(std::equal(before.begin(), before.begin() + around, after.begin()));
        CHECK(std::equal(before.end() - around, before.end(), after.end() - around));
        CHECK(before[around] != after[around]);
        CHECK(before[size_t(around + arena - 1)] != after[size_t(around + arena - 1)]);
        FakeDevice::get().run([&] { FakeDevice::get().memory(used_device).release(whole); });
    }
}

TEST_CASE("callers' memory: of several caches each has its own, on one device and on two") {
    for (const int64_t other : {used_device, 0}) {
        INFO("devices ", used_device, " and ", other);
        const Order order(3);
        CallersMemory first_memory(used_device), second_memory{int(other)};
        const auto setup = [&](int64_t ordinal, CallersMemory& memory) {
            return Setup{.codec = codec, .counts = {1}, .ordinal = ordinal, .memory = memory.source()};
        };
        Side second(setup(other, second_memory));
        const int64_t alone = second_memory.live();
        CHECK(alone > 0);
        {
            Side first(setup(used_device, first_memory));
            for (Side* const side : {&first, &second}) {
                side->add(0, 70, 1);
            }
            for (int i = 0; i < 3; i++) {
                first.step();
                second.step();
                CHECK(first.outputs() == second.outputs());
            }
            CHECK(first.stored() == second.stored());
        }
        CHECK(first_memory.live() == 0);
        CHECK(second_memory.live() > alone);
        second.step();
    }
}

namespace {

kvc_options options_with(CallersMemory& memory) {
    kvc_options o;
    kvc_options_init(&o, sizeof o);
    o.device = KVC_CUDA, o.device_ordinal = used_device;
    o.layers = 2, o.kv_heads = 2, o.k_dim = 64, o.arena_growth = 1;
    std::strcpy(o.codec, codec.c_str());
    std::strcpy(o.policy, policy.c_str());
    memory.serve(&o);
    return o;
}

// Makes calls that may be refused memory, and those that are once more, as a caller does who has made room.
class Insisting {
public:
    explicit Insisting(CallersMemory& memory) : memory_(memory) {}

    template <class Call>
    auto operator()(const Call& call) {
        error = {sizeof error, 0, ""};
        auto result = call();
        if (!result) {
            told++;
            INFO(error.message);
            CHECK(memory_.refused() == 1);
            CHECK((error.status == KVC_E_NO_MEMORY || (error.status == KVC_E_ARGUMENT && memory_.refusal() != Refusal::null)));
            result = call();
            REQUIRE(result);
        }
        return result;
    }

    kvc_error error = {};
    int64_t told = 0;  // refusals that a call's error told of

private:
    CallersMemory& memory_;
};

// A course by single calls; what it gives does not depend on refusals.
Bytes insisting_course(CallersMemory& memory, Insisting& insist) {
    constexpr int64_t tokens = 100, dims = tokens * 2 * 64, bytes = dims * int64_t(sizeof(float));
    const int64_t one = 1, count = tokens;
    std::vector<float> in(static_cast<size_t>(dims)), out(static_cast<size_t>(2 * dims));
    for (size_t i = 0; i < in.size(); i++) {
        in[i] = float(i * 2654435761U % 1000) / 500.0f - 1.0f;
    }
    const kvc_options options = options_with(memory);
    kvc_error* const err = &insist.error;
    kvc_cache* const cache = insist([&] {
        kvc_cache* const made = kvc_create(&options, nullptr, 0, err);
        CHECK((made != nullptr || memory.live() == 0));
        return made;
    });
    const kvc_seq seqs[] = {kvc_seq_create(cache, nullptr, err), kvc_seq_create(cache, nullptr, err)};
    for (const kvc_seq seq : seqs) {
        kvc_step* const step = insist([&] { return kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, err); });
        for (int64_t layer = 0; layer < 2; layer++) {
            require(kvc_append(step, layer, in.data(), bytes, in.data(), bytes, err), *err);
            require(kvc_attend(step, layer, in.data(), bytes, out.data() + layer * dims, bytes, nullptr, 0, nullptr, err), *err);
        }
        require(kvc_step_commit(step, nullptr, 0, err), *err);
    }
    void* const buffer = insist([&] { return kvc_buffer_create(cache, KVC_BUFFER_DEVICE, 100000, err); });
    kvc_graph* const graph = insist([&] { return kvc_graph_create(cache, &one, 1, 200, 0, 0, err); });
    insist([&] { return kvc_evict(cache, seqs[0], nullptr, 0, nullptr, nullptr, err) == KVC_OK; });
    const std::vector<int32_t> clusters = clusters_of(tokens);
    insist([&] { return kvc_merge(cache, seqs[1], clusters.data(), int64_t(clusters.size()), nullptr, nullptr, err) == KVC_OK; });
    Bytes seen(out.size() * sizeof(float));
    std::memcpy(seen.data(), out.data(), seen.size());
    for (const kvc_seq seq : seqs) {
        int64_t live = 0;
        require(kvc_seq_live(cache, seq, 1, 1, &live, err), *err);
        std::vector<float> values(size_t(live * 64));
        require(kvc_seq_read(cache, seq, 1, 1, KVC_VALUES, 0, live, values.data(), live * 64 * 4, err), *err);
        const auto* const first = reinterpret_cast<const uint8_t*>(values.data());
        seen.insert(seen.end(), first, first + values.size() * sizeof(float));
    }
    require(kvc_graph_destroy(graph, err), *err);
    require(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, buffer, err), *err);
    require(kvc_destroy(cache, err), *err);
    return seen;
}

}  // namespace

TEST_CASE(
    "callers' memory: whichever block is refused, not aligned or not the device's, the call says so and can be made again, and nothing "
    "is lost") {
    CallersMemory whole(used_device);
    Insisting never(whole);
    const Bytes expected = insisting_course(whole, never);
    CHECK(never.told == 0);
    for (const Refusal refusal : {Refusal::null, Refusal::misaligned, Refusal::of_host}) {
        int64_t told = 0, n = 1;
        for (; n <= whole.given(); n++) {
            INFO("refusal ", int(refusal), " of block ", n);
            const Order order(uint64_t(n % 3));
            CallersMemory memory(used_device);
            memory.refuse_in(n, refusal);
            Insisting insist(memory);
            CHECK(insisting_course(memory, insist) == expected);
            CHECK(memory.refused() == 1);
            CHECK(memory.live() == 0);
            told += insist.told;
        }
        // Where an ended step left memory, a block that is refused once is had at the second try.
        CHECK(told >= (refusal == Refusal::null ? 10 : 16));
    }
}

namespace {

// A cache with a sequence, whose arena asks for no more memory; it holds some that was given back to it.
struct Holding {
    enum class What { nothing, buffer, graph };

    Holding(CallersMemory& memory, What what) {
        kvc_options options = options_with(memory);
        options.arena_growth = 0, options.arena_bytes = 1 << 20;
        cache = kvc_create(&options, nullptr, 0, &error);
        REQUIRE(cache != nullptr);
        seq = kvc_seq_create(cache, nullptr, &error);
        if (what == What::buffer) {
            void* const buffer = kvc_buffer_create(cache, KVC_BUFFER_DEVICE, 100000, &error);
            require(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, buffer, &error), error);
        }
        if (what == What::graph) {
            require(kvc_graph_destroy(create_graph(), &error), error);
        }
    }
    ~Holding() { CHECK(kvc_destroy(cache, nullptr) == KVC_OK); }
    Holding(const Holding&) = delete;
    Holding& operator=(const Holding&) = delete;

    kvc_graph* create_graph() { return kvc_graph_create(cache, &count, 1, 200, 0, 0, &error); }
    bool run_step(int64_t tokens = 1) {
        kvc_step* const step = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, &error);
        return step != nullptr && kvc_step_abort(step, nullptr) == KVC_OK;
    }

    const int64_t count = 1;
    kvc_cache* cache = nullptr;
    kvc_seq seq = 0;
    kvc_error error = {sizeof error, 0, ""};
};

}  // namespace

TEST_CASE("callers' memory: steps and graphs are refused memory only after all that was given back has been returned") {
    using What = Holding::What;
    for (const What what : {What::nothing, What::buffer, What::graph}) {
        for (const bool graph : {false, true}) {
            int64_t n = 1;
            for (;; n++) {
                INFO("held: ", int(what), ", for a ", std::string(graph ? "graph" : "step"), ", refused: block ", n);
                CallersMemory memory(used_device);
                Holding holding(memory, what);
                memory.refuse_in(n);
                const bool served = graph ? holding.create_graph() != nullptr : holding.run_step();
                if (memory.refused() == 0) {
                    CHECK(served);
                    break;
                }
                CHECK(served == (what != What::nothing));
                if (!served) {
                    CHECK(holding.error.status == KVC_E_NO_MEMORY);
                    CHECK(std::string(holding.error.message).find("allocate gave NULL: ") == 0);
                }
            }
            CHECK(n > (graph ? 3 : 5));
        }
    }
}

TEST_CASE("callers' memory: what a small step left for the next is given back before a larger one is refused memory") {
    CallersMemory memory(used_device);
    Holding holding(memory, Holding::What::nothing);
    REQUIRE(holding.run_step());
    REQUIRE(kvc_synchronize(holding.cache, nullptr) == KVC_OK);
    const int64_t idle = memory.live(), given = memory.given();
    memory.refuse_in(1);
    CHECK(holding.run_step(1000));
    CHECK(memory.refused() == 1);
    CHECK(memory.given() > given);
    CHECK(memory.live() <= idle);
}

TEST_CASE("callers' memory: what options can ask for beside it") {
    CallersMemory memory(used_device);
    kvc_error error = {sizeof error, 0, ""};
    kvc_options options = options_with(memory);
    for (const char* const target : {",pool", ",pool=own"}) {
        std::strcpy(options.target, target);
        CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
        CHECK(error.status == KVC_E_ARGUMENT);
        CHECK(std::string(error.message) ==
              "target \"" + std::string(target) + "\" asks for a memory pool, and allocate is given; give one of them");
    }
    CHECK(memory.given() == 0);
    options.target[0] = 0;
    options.arena_growth = 0, options.arena_bytes = 1 << 20;
    CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_OK);
    CHECK(memory.live() == 0);
    // Refused as the first block is, and as the arena's is.
    memory.refuse_in(1, Refusal::misaligned);
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    CHECK(std::string(error.message).find("allocate gave a block that is not 256-byte aligned: ") == 0);
    memory.refuse_in(1, Refusal::of_host);
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    CHECK(std::string(error.message).find("allocate gave a block that is memory of the host, not of CUDA device 1: ") == 0);
    memory.refuse_in(2);
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_NO_MEMORY);
    CHECK(std::string(error.message) == "arena: allocate refused 1048576 bytes");
    // An arena of the caller's leaves the rest to the functions.
    const int64_t before = memory.given();
    kvc_cache* const whole = kvc_create(&options, nullptr, 0, &error);
    REQUIRE(whole != nullptr);
    const int64_t blocks = memory.given() - before;
    {
        const kvc::cuda::Selection selection(used_device);
        options.arena_block = memory.source().allocate(&memory, options.arena_bytes, 256);
    }
    kvc_cache* const rest = kvc_create(&options, nullptr, 0, &error);
    REQUIRE(rest != nullptr);
    CHECK(memory.given() - before - blocks == blocks);  // one is the arena
    require(kvc_destroy(whole, &error), error);
    require(kvc_destroy(rest, &error), error);
    const kvc::cuda::Selection selection(used_device);
    memory.source().release(&memory, options.arena_block, options.arena_bytes);
}
