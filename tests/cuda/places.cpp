// Memory that is not of the kind that its caller says: refused by what it is, and the cache serves on.
#include <cstring>
#include <kvc.h>
#include <string>
#include <vector>

#include "tests/cuda/emulated_device.h"

using kvc::cuda::Selection;
using kvc::simt::FakeDevice;
using kvc_test::Order;
using kvc_test::used_device;
namespace runtime = kvc::cuda::runtime;

namespace {

constexpr int64_t bytes = 4096;

kvc_options options_of_one_layer() {
    kvc_options o;
    kvc_options_init(&o, sizeof o);
    o.device = KVC_CUDA, o.device_ordinal = used_device;
    o.layers = 1, o.kv_heads = 1, o.k_dim = 64;
    o.arena_bytes = 1 << 20;
    return o;
}

// Memory of a device that kvc knows nothing of.
class Foreign {
public:
    explicit Foreign(int ordinal, int64_t size) : ordinal_(ordinal) {
        const Selection selection(ordinal_);
        block = *runtime::allocate(size);
    }
    ~Foreign() {
        const Selection selection(ordinal_);
        runtime::release(block);
    }
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;

    std::byte* block;

private:
    const int ordinal_;
};

// A cache with a buffer of each kind. What is refused has changed neither them nor the cache.
struct Buffers {
    Buffers() {
        const kvc_options options = options_of_one_layer();
        cache = kvc_create(&options, nullptr, 0, &error);
        REQUIRE(cache != nullptr);
        there = static_cast<std::byte*>(kvc_buffer_create(cache, KVC_BUFFER_DEVICE, bytes, &error));
        pinned = static_cast<std::byte*>(kvc_buffer_create(cache, KVC_BUFFER_PINNED, bytes, &error));
        REQUIRE((there != nullptr && pinned != nullptr));
        std::memset(pinned, 7, bytes);
        CHECK(copy(there, KVC_CUDA, pinned, KVC_CPU) == "");
    }
    ~Buffers() { CHECK(kvc_destroy(cache, nullptr) == KVC_OK); }
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;

    // What a copy says that is refused; "": it is not.
    std::string copy(void* to, int32_t to_device, const void* from, int32_t from_device, int64_t n = bytes) {
        error = {sizeof error, 0, ""};
        const kvc_status status = kvc_buffer_copy(cache, to, to_device, from, from_device, n, &error);
        INFO(error.message);
        CHECK((status == KVC_OK || status == KVC_E_ARGUMENT));
        return error.message;
    }

    void check_untouched() {
        std::vector<std::byte> back(bytes);
        CHECK(copy(back.data(), KVC_CPU, there, KVC_CUDA) == "");
        CHECK(back == std::vector<std::byte>(bytes, std::byte{7}));
        CHECK(std::vector<std::byte>(pinned, pinned + bytes) == back);
        CHECK(kvc_synchronize(cache, nullptr) == KVC_OK);
        const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
        CHECK(seq != 0);
        CHECK(kvc_seq_destroy(cache, seq, nullptr) == KVC_OK);
    }

    kvc_cache* cache;
    std::byte *there, *pinned;
    kvc_error error = {sizeof error, 0, ""};
};

}  // namespace

TEST_CASE("places: a copy is refused where a side is not what it is said to be, and the cache serves on") {
    for (const uint64_t seed : {0, 3}) {
        const Order order(seed);
        const Foreign other(0, bytes), same(used_device, bytes);
        std::vector<std::byte> host(bytes);
        Buffers b;
        const std::string of_host = "is memory of the host, not of CUDA device 1",
                          of_other = "is memory of CUDA device 0, not of CUDA device 1",
                          of_device = "is memory of CUDA device 1, not of the host";
        CHECK(b.copy(host.data(), KVC_CUDA, b.pinned, KVC_CPU) == "buffer_copy: to " + of_host);
        CHECK(b.copy(b.pinned, KVC_CUDA, host.data(), KVC_CPU) == "buffer_copy: to " + of_host);
        CHECK(b.copy(host.data(), KVC_CUDA, b.there, KVC_CUDA) == "buffer_copy: to " + of_host);
        CHECK(b.copy(host.data(), KVC_CPU, b.pinned, KVC_CUDA) == "buffer_copy: from " + of_host);
        CHECK(b.copy(b.there, KVC_CUDA, host.data(), KVC_CUDA) == "buffer_copy: from " + of_host);
        CHECK(b.copy(b.there, KVC_CPU, same.block, KVC_CUDA) == "buffer_copy: to " + of_device);
        CHECK(b.copy(b.there, KVC_CUDA, same.block, KVC_CPU) == "buffer_copy: from " + of_device);
        CHECK(b.copy(b.there, KVC_CUDA, other.block, KVC_CUDA) == "buffer_copy: from " + of_other);
        CHECK(b.copy(other.block, KVC_CUDA, host.data(), KVC_CPU) == "buffer_copy: to " + of_other);
        b.check_untouched();
        // Both ends of a copy may be the caller's.
        CHECK(b.copy(same.block, KVC_CUDA, b.there, KVC_CUDA) == "");
        CHECK(b.copy(host.data(), KVC_CPU, same.block, KVC_CUDA) == "");
        CHECK(host == std::vector<std::byte>(bytes, std::byte{7}));
    }
}

TEST_CASE("places: a copy beyond the end of a buffer is refused, and the cache serves on") {
    const Order order(3);
    const Foreign same(used_device, bytes);
    std::vector<std::byte> host(2 * bytes);
    Buffers b;
    const auto beyond = [](int64_t at, int64_t n) {
        return "is byte " + std::to_string(at) + " of 4096 of a buffer, which has no " + std::to_string(n) + " bytes there";
    };
    CHECK(b.copy(b.there, KVC_CUDA, host.data(), KVC_CPU, bytes + 1) == "buffer_copy: to " + beyond(0, bytes + 1));
    CHECK(b.copy(b.there + 96, KVC_CUDA, host.data(), KVC_CPU) == "buffer_copy: to " + beyond(96, bytes));
    CHECK(b.copy(host.data(), KVC_CPU, b.there + 4095, KVC_CUDA, 2) == "buffer_copy: from " + beyond(4095, 2));
    CHECK(b.copy(b.there, KVC_CUDA, b.pinned + 1, KVC_CPU) == "buffer_copy: from " + beyond(1, bytes));
    CHECK(b.copy(b.there, KVC_CUDA, b.there, KVC_CUDA, INT64_MAX) == "buffer_copy: to " + beyond(0, INT64_MAX));
    // What the caller has from elsewhere: its first and last byte are looked at.
    const std::string refused = b.copy(same.block, KVC_CUDA, host.data(), KVC_CPU, bytes + 1);
    CHECK(refused == "buffer_copy: to is memory of CUDA device 1, but not all of its 4097 bytes");
    b.check_untouched();
    CHECK(b.copy(b.there + 4095, KVC_CUDA, b.pinned + 4095, KVC_CPU, 1) == "");
    CHECK(b.copy(nullptr, KVC_CPU, nullptr, KVC_CUDA, 0) == "");
}

TEST_CASE("places: an arena block that is not all of the device's memory is refused by kvc_supports and kvc_create") {
    const Order order(0);
    kvc_options options = options_of_one_layer();
    const Foreign other(0, options.arena_bytes), small(used_device, options.arena_bytes - 256), fits(used_device, options.arena_bytes);
    std::vector<std::byte> host(size_t(options.arena_bytes) + 128);
    kvc_error error = {sizeof error, 0, ""};
    const auto refusal = [&](void* block) {
        options.arena_block = block;
        error = {sizeof error, 0, ""};
        kvc_cache* const made = kvc_create(&options, nullptr, 0, &error);
        const std::string said = error.message;
        CHECK(error.status == (made ? KVC_OK : KVC_E_ARGUMENT));
        CHECK(kvc_supports(&options, nullptr, 0, &error) == (made ? KVC_OK : KVC_E_ARGUMENT));
        CHECK(said == error.message);
        CHECK((!made || kvc_destroy(made, nullptr) == KVC_OK));
        return said;
    };
    std::byte* const aligned = host.data() + (128 - reinterpret_cast<uintptr_t>(host.data()) % 128) % 128;
    CHECK(refusal(aligned) == "arena_block is memory of the host, not of CUDA device 1");
    CHECK(refusal(other.block) == "arena_block is memory of CUDA device 0, not of CUDA device 1");
    CHECK(refusal(small.block) == "arena_block is memory of CUDA device 1, but not all of its 1048576 bytes");
    CHECK(refusal(fits.block) == "");
    FakeDevice::get().set_managed(aligned, options.arena_bytes);
    CHECK(refusal(aligned) == "");
    FakeDevice::get().set_managed(nullptr, 0);
    // On the host a block is the host's affair.
    options.device = KVC_CPU, options.device_ordinal = 0;
    CHECK(refusal(aligned) == "");
}

TEST_CASE("places: a device that cannot say whose memory it is has failed, and costs the cache as any failure does") {
    const Order order(0);
    Buffers b;
    FakeDevice::get().fail_call_in(1);
    CHECK(kvc_buffer_copy(b.cache, b.there, KVC_CUDA, b.there, KVC_CUDA, 16, &b.error) == KVC_E_DEVICE);
    CHECK(kvc_seq_create(b.cache, nullptr, nullptr) == 0);
}

TEST_CASE("places: while a stream is captured a copy may ask, and spoils nothing") {
    const Order order(0);
    const Selection selection(used_device);
    const runtime::Place before = *runtime::place_of(&order);
    const auto stream = *runtime::create_stream();
    REQUIRE(runtime::begin_capture(stream).ok());
    CHECK(runtime::place_of(&order)->owner == before.owner);
    const auto captured = runtime::end_capture(stream);
    REQUIRE(captured.ok());
    runtime::destroy_graph(*captured);
    runtime::destroy_stream(stream);
}
