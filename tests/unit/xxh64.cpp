// XXH64 against published numbers.
#include "core/base/xxh64.h"

#include <doctest/doctest.h>
#include <string_view>
#include <vector>

namespace {

uint64_t hash(std::string_view text) { return kvc::xxh64(std::as_bytes(std::span(text))); }

}  // namespace

TEST_CASE("xxh64: short texts hash to the numbers that its implementations publish") {
    CHECK(hash("") == 0xEF46DB3751D8E999u);
    CHECK(hash("a") == 0xD24EC4F1A98C6E5Bu);
    CHECK(hash("abc") == 0x44BC2CF5AD770999u);
    CHECK(hash("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1u);
}

TEST_CASE("xxh64: the sanity check of the reference implementation (xxHash, tests/sanity_test_vectors.h), seed 0") {
    std::vector<std::byte> data(256);
    uint64_t state = 2654435761u;
    for (std::byte& byte : data) {
        byte = std::byte(state >> 56);
        state *= 11400714785074694797u;
    }
    const auto first = [&](size_t n) { return kvc::xxh64(std::span(data).first(n)); };
    CHECK(first(1) == 0xE934A84ADB052768u);
    CHECK(first(4) == 0x9136A0DCA57457EEu);
    CHECK(first(14) == 0x8282DCC4994E35C8u);
    CHECK(first(222) == 0xB641AE8CB691C174u);
}
