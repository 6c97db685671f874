// Memory from the caller's own allocator.
#include "tests/capi/fixture.h"

using namespace capi_tests;

TEST_CASE("options: blocks of an allocator that ignores the alignment are refused and given back") {
    struct Host {
        alignas(128) unsigned char memory[1 << 22];
        int64_t given = 0, released = 0, offset = 0;
    };
    static Host host;
    kvc_options options = small_options();
    options.allocator_context = &host;
    options.allocate = [](void* context, int64_t bytes, int64_t) -> void* {
        Host& h = *static_cast<Host*>(context);
        if (bytes + h.offset > int64_t(sizeof h.memory)) return nullptr;
        return h.given++, h.memory + h.offset;
    };
    options.release = [](void* context, void*, int64_t) { static_cast<Host*>(context)->released++; };
    options.arena_tokens = options.arena_sequences = 0, options.arena_bytes = 1 << 20;
    host.offset = 64;
    kvc_error error = empty_error();
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    expect_message(error, "128-byte aligned");
    CHECK(host.given == 1);
    CHECK(host.released == 1);
    // Slabs that come later: memory that cannot be used is no memory.
    options.arena_bytes = 0, options.arena_growth = 1;
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    const kvc_seq seq = kvc_seq_create(cache, nullptr, &error);
    const int64_t count = 1;
    CHECK(kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error) == nullptr);
    CHECK(error.status == KVC_E_NO_MEMORY);
    CHECK(host.given > 1);
    CHECK(host.released == host.given);
    host.offset = 128;
    kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error);
    REQUIRE_MESSAGE(step != nullptr, error.message);
    CHECK(kvc_step_abort(step, nullptr) == KVC_OK);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
    CHECK(host.released == host.given);
}
