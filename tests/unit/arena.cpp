#include "core/store/arena.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <set>

using namespace kvc;

namespace {

constexpr int64_t slab = 64 << 10;

std::unique_ptr<Arena> arena_of(int64_t slabs, std::vector<int64_t> sizes, bool growth = false) {
    ArenaOptions options;
    options.bytes = slabs * slab;
    options.slab_bytes = slab;
    options.growth = growth;
    Result<std::unique_ptr<Arena>> arena = Arena::create(options, sizes);
    REQUIRE(arena.ok());
    return std::move(*arena);
}

}  // namespace

TEST_CASE("arena: slab sizes follow the arena's size") {
    CHECK(slab_bytes_for(int64_t{1} << 40, 4096) == slab_bytes_max);
    CHECK(slab_bytes_for(64 * slab_bytes_max, 4096) == slab_bytes_max);
    CHECK(slab_bytes_for(64 * slab_bytes_max - 1, 4096) == slab_bytes_max / 2);
    CHECK(slab_bytes_for(0, 4096) == slab_bytes_min(4096));
    CHECK(slab_bytes_min(1 << 20) == 4 << 20);  // a slab holds four of the largest record
    CHECK(records_per_slab(slab, 4608) == slab / 4608);
    CHECK(records_per_slab(int64_t{64} << 20, 128) == 4096);  // what a RecordId can name
}

TEST_CASE("arena: records do not overlap and are never number 0") {
    auto arena = arena_of(3, {512, 4608});
    std::set<std::byte*> seen;
    for (int i = 0; i < 20; i++) {
        const RecordId id = arena->allocate(arena->class_of(4608));
        REQUIRE(id != 0);
        for (std::byte* other : seen)
            CHECK((arena->data(id) >= other + 4608 || arena->data(id) + 4608 <= other));
        seen.insert(arena->data(id));
        CHECK(arena->view().at(id, 4608) == arena->data(id));
    }
    CHECK(arena->bytes_in_use() == 20 * 4608);
    CHECK(arena->bound_bytes() == 2 * slab);  // 14 to a slab
}

TEST_CASE("arena: a large one begins where a huge page does") {
    for (const int64_t slabs : {32, 33, 48, 95, 97, 200, 617}) {
        auto first = arena_of(slabs, {slab}), second = arena_of(slabs, {slab});
        for (Arena* arena : {first.get(), second.get()}) {
            std::vector<const std::byte*> blocks;
            for (int64_t i = 0; i < slabs; i++)
                blocks.push_back(arena->data(arena->allocate(0)));
            CHECK(reinterpret_cast<uintptr_t>(*std::min_element(blocks.begin(), blocks.end())) % (2 << 20) == 0);
        }
    }
}

TEST_CASE("arena: slabs are bound only when all of their class are full, and returned when empty") {
    auto arena = arena_of(2, {512, 4608});
    const int small = arena->class_of(512), large = arena->class_of(4608);
    std::vector<RecordId> records;
    for (int64_t i = 0; i < records_per_slab(slab, 4608); i++)
        records.push_back(arena->allocate(large));
    CHECK(arena->bound_bytes() == slab);
    const RecordId other = arena->allocate(small);
    REQUIRE(other != 0);
    CHECK(arena->bound_bytes() == 2 * slab);
    CHECK(arena->allocate(large) == 0);  // both slabs are bound, this class is full
    for (RecordId id : records)
        CHECK(arena->release(id));
    CHECK(arena->bound_bytes() == slab);
    CHECK(arena->release(other));
    CHECK(arena->bound_bytes() == 0);
    CHECK(arena->bytes_in_use() == 0);
    CHECK(arena->allocate(large) != 0);
}

TEST_CASE("arena: a record lives until its last owner lets go") {
    auto arena = arena_of(1, {512});
    const RecordId id = arena->allocate(0);
    CHECK_FALSE(arena->shared(id));
    arena->retain(id);
    CHECK(arena->shared(id));
    CHECK_FALSE(arena->release(id));
    CHECK(arena->bytes_in_use() == 512);
    CHECK(arena->release(id));
    CHECK(arena->bytes_in_use() == 0);
}

TEST_CASE("arena: grows only if asked") {
    auto fixed = arena_of(1, {32768});
    REQUIRE(fixed->allocate(0) != 0);
    REQUIRE(fixed->allocate(0) != 0);
    CHECK(fixed->allocate(0) == 0);
    auto growing = arena_of(0, {32768}, true);
    for (int i = 0; i < 9; i++)
        CHECK(growing->allocate(0) != 0);
    CHECK(growing->total_bytes() == 5 * slab);
}

TEST_CASE("arena: a host that refuses leaves it as it was") {
    struct Host {
        int left;
    } host{1};
    ArenaOptions options;
    options.slab_bytes = slab;
    options.growth = true;
    options.source.context = &host;
    options.source.allocate = [](void* context, int64_t bytes, int64_t alignment) -> void* {
        return static_cast<Host*>(context)->left-- > 0 ? std::aligned_alloc(size_t(alignment), size_t(bytes)) : nullptr;
    };
    options.source.release = [](void*, void* block, int64_t) { std::free(block); };
    Result<std::unique_ptr<Arena>> made = Arena::create(options, {32768});
    REQUIRE(made.ok());
    Arena& arena = **made;
    CHECK(arena.allocate(0) != 0);
    CHECK(arena.allocate(0) != 0);
    CHECK(arena.allocate(0) == 0);
    CHECK(arena.total_bytes() == slab);
    host.left = 1;
    CHECK(arena.allocate(0) != 0);
}

TEST_CASE("arena: compaction frees the slabs that half-empty classes hold, and keeps bytes and owners") {
    auto arena = arena_of(3, {512, 4608});
    const int small = arena->class_of(512), large = arena->class_of(4608);
    const int64_t per_slab = records_per_slab(slab, 4608);
    std::vector<RecordId> records;
    for (int64_t i = 0; i < 2 * per_slab; i++) {
        records.push_back(arena->allocate(large));
        std::fill_n(arena->data(records.back()), 4608, std::byte(i));
    }
    const RecordId other = arena->allocate(small);
    arena->retain(records[1]);
    for (size_t i = 0; i < records.size(); i++) {
        if (i % 2 == 0) arena->release(records[i]);
    }
    CHECK(arena->bound_bytes() == 3 * slab);
    CompactionRoom room = arena->prepare_compaction();
    arena->compact(&room);
    CHECK(arena->bound_bytes() == 2 * slab);
    CHECK(arena->bytes_in_use() == per_slab * 4608 + 512);
    for (size_t i = 1; i < records.size(); i += 2) {
        const RecordId now = room.renamed(records[i]);
        CHECK(arena->data(now)[0] == std::byte(i));
        CHECK(arena->data(now)[4607] == std::byte(i));
        CHECK(arena->shared(now) == (i == 1));
    }
    CHECK(room.renamed(other) == other);
    room = arena->prepare_compaction();
    arena->compact(&room);
    CHECK(room.moved.empty());
    for (int64_t i = 0; i < records_per_slab(slab, 512); i++)
        CHECK(arena->allocate(small) != 0);  // the slab serves another class now
}
