// The index of published tokens against a plain search over all entries, with digests whole and cut so short that they collide.
#include "core/store/prefix_index.h"

#include <algorithm>
#include <random>

#include "doctest/doctest.h"
#include "tests/reference/sha256.h"

using namespace kvc;

namespace {

const PrefixIndex::Usable any = [](const PrefixEntry&) { return true; };

using Tokens = std::vector<int64_t>;

// Texts that part ways at many places: few different tokens, often the same beginning.
Tokens random_text(std::mt19937_64& random) {
    Tokens text(random() % 300 + 1);
    const uint64_t family = random() % 3, turn = random() % (text.size() + 1), branch = random() % 3;
    for (size_t i = 0; i < text.size(); i++)
        text[i] = int64_t(i < turn ? family : 10 + branch);
    return text;
}

struct Published {
    Tokens tokens;
    std::string salt;
    int64_t floor;
    PrefixEntry* entry;
};

int64_t in_common(const Published& entry, const Tokens& prompt, const std::string& salt) {
    if (entry.salt != salt) return 0;
    const auto end = std::mismatch(entry.tokens.begin(), entry.tokens.end(), prompt.begin(), prompt.end()).first;
    return end - entry.tokens.begin();
}

void check_find(const PrefixIndex& index, const std::vector<Published>& entries, const Tokens& prompt, const std::string& salt) {
    int64_t shared = 0, best = 0;
    for (const Published& entry : entries) {
        const int64_t p = in_common(entry, prompt, salt), cut = std::min<int64_t>(p, int64_t(prompt.size()) - 1);
        shared = std::max(shared, p);
        if (cut >= entry.floor) best = std::max(best, cut);
    }
    const PrefixIndex::Match match = index.find({prompt, salt}, any);
    CHECK(match.tokens == best);
    CHECK(match.shared == shared);
    REQUIRE((match.entry != nullptr) == (best > 0));
    if (!match.entry) return;
    CHECK(match.entry->salt == salt);
    CHECK(match.entry->floor <= best);
    CHECK(std::equal(prompt.begin(), prompt.begin() + best, match.entry->tokens.begin()));
}

}  // namespace

TEST_CASE("prefix index: finds what a plain search finds, whatever the digests are worth") {
    for (int bits : {256, 8, 4, 0}) {
        CAPTURE(bits);
        std::mt19937_64 random(static_cast<uint64_t>(bits));
        PrefixIndex index(bits);
        const int64_t empty = index.host_bytes();
        std::vector<Published> entries;
        for (int round = 0; round < 4000; round++) {
            const std::string salt = random() % 3 ? "x" : "";
            const Tokens text = random_text(random);
            if (random() % 4 == 0 && entries.size() < 40) {
                const int64_t floor = int64_t(random() % (text.size() + 1)) * int64_t(random() % 2);
                entries.push_back({text, salt, floor, index.insert({text, salt}, floor, false)});
            } else if (random() % 8 == 0 && !entries.empty()) {
                const size_t gone = random() % entries.size();
                index.erase(entries[gone].entry);
                entries.erase(entries.begin() + int64_t(gone));
            }
            check_find(index, entries, text, salt);
        }
        while (!entries.empty()) {
            index.erase(entries.back().entry);
            entries.pop_back();
        }
        CHECK(index.tokens() == 0);
        CHECK(index.host_bytes() < empty + 100000);  // buckets stay, entries do not
    }
}

TEST_CASE("prefix index: a list of tokens is found as such and by its beginnings, also among colliding digests") {
    for (int bits : {256, 0}) {
        PrefixIndex index(bits);
        Tokens text(200, 7);
        PrefixEntry* const whole = index.insert({text, "s"}, 5, false);
        PrefixEntry* const part = index.insert({std::span(text).first(64), "s"}, 5, false);
        CHECK(index.find_same({text, "s"}, any) == whole);
        CHECK(index.find_same({std::span(text).first(64), "s"}, any) == part);
        CHECK(index.find_same({std::span(text).first(65), "s"}, any) == nullptr);
        CHECK(index.find_same({text, "t"}, any) == nullptr);
        CHECK(index.find_below({std::span(text).first(65), "s"}) == std::vector<PrefixEntry*>{whole});
        CHECK(index.find_below({std::span(text).first(3), "s"}).size() == 2);
        CHECK(index.find_below({{}, "t"}).empty());
        text[10] = 8;
        CHECK(index.find_below({std::span(text).first(11), "s"}).empty());
    }
}

TEST_CASE("prefix index: the order of use begins with the entry that was not touched longest") {
    PrefixIndex index;
    const Tokens one = {1}, two = {2}, three = {3};
    PrefixEntry* const first = index.insert({one, ""}, 0, false);
    PrefixEntry* const second = index.insert({two, ""}, 0, false);
    PrefixEntry* const third = index.insert({three, ""}, 0, false);
    index.touch(first);
    std::vector<PrefixEntry*> order;
    for (PrefixEntry& entry : index.entries())
        order.push_back(&entry);
    CHECK(order == std::vector<PrefixEntry*>{second, third, first});
    CHECK(index.tokens() == 3);
}

TEST_CASE("prefix index: a prompt far longer than anything published is not hashed beyond it") {
    PrefixIndex index;
    Tokens text(128, 1);
    index.insert({text, ""}, 0, false);
    Tokens prompt(size_t{1} << 22, 1);
    for (int i = 0; i < 1000; i++) {  // seconds each, if all of it were hashed
        prompt[0] = i % 2;
        CHECK(index.find({prompt, ""}, any).tokens == (i % 2 ? 128 : 0));
    }
}

TEST_CASE("sha-256: the digests are the standard's, whatever the pieces") {
    std::mt19937_64 random(1);
    for (size_t bytes = 0; bytes < 300; bytes++) {
        std::vector<uint8_t> data(bytes);
        for (uint8_t& x : data)
            x = uint8_t(random());
        Sha256 hash;
        kvc_reference::Sha256 reference;
        reference.add(data.data(), bytes);
        for (size_t at = 0; at < bytes;) {
            const size_t n = std::min<size_t>(bytes - at, random() % 150);
            hash.add(&data[at], n);
            at += n;
        }
        static const char* const hexadecimal = "0123456789abcdef";
        std::string text;
        for (uint8_t x : hash.finish())
            text += {hexadecimal[x >> 4], hexadecimal[x & 15]};
        CHECK(text == reference.hex());
    }
    const Digest empty = Sha256().finish();  // of no bytes: e3b0c442...
    CHECK(empty[0] == 0xe3);
    CHECK(empty[31] == 0x55);
}
