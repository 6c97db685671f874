// Mutated snapshots by the thousand, or for hours (make fuzz-snapshot): whatever the bytes say, import answers with a status, and what it
// takes is a sequence like any other. Most inputs get their checksums made anew, so that they reach what lies behind them.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/base/xxh64.h"
#include "tests/reference/test_data.h"
#include "tests/snapshot/golden.h"

using namespace kvc_snapshots;
using kvc_reference::Choices;

namespace {

constexpr size_t header_bytes = 40, section_header_bytes = 16;

uint64_t sum_of(const uint8_t* bytes, size_t n) { return kvc::xxh64(std::as_bytes(std::span(bytes, n))); }

struct Section {
    Bytes head;  // name, flags, length
    Bytes payload;
};

std::vector<Section> split(const Bytes& whole) {
    std::vector<Section> sections;
    for (size_t at = header_bytes; at < whole.size();) {
        uint64_t length = 0;
        std::memcpy(&length, &whole[at + 8], 8);
        const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(at), body = begin + section_header_bytes;
        sections.push_back({{begin, body}, {body, body + static_cast<std::ptrdiff_t>(length)}});
        at += section_header_bytes + length + 8;
    }
    return sections;
}

// A whole with lengths, sums, layout id and header that are right.
Bytes sealed(const Bytes& header, const std::vector<Section>& sections) {
    Bytes whole = header;
    const auto put = [&](size_t at, uint64_t number) { std::memcpy(&whole[at], &number, 8); };
    for (const Section& section : sections) {
        const size_t start = whole.size();
        whole.insert(whole.end(), section.head.begin(), section.head.end());
        put(start + 8, section.payload.size());
        whole.insert(whole.end(), section.payload.begin(), section.payload.end());
        whole.resize(whole.size() + 8);
        put(whole.size() - 8, sum_of(&whole[start], whole.size() - 8 - start));
    }
    put(16, whole.size());
    put(24, sum_of(sections[0].payload.data(), sections[0].payload.size()));
    put(32, sum_of(whole.data(), 32));
    return whole;
}

uint64_t odd_number(Choices& choose) {
    const std::vector<uint64_t> edges = {0,
                                         1,
                                         2,
                                         3,
                                         63,
                                         64,
                                         65,
                                         127,
                                         128,
                                         255,
                                         0x7fff,
                                         0x7c00,
                                         0xffff,
                                         1u << 20,
                                         1u << 31,
                                         0xffffffffu,
                                         1ull << 32,
                                         1ull << 40,
                                         (1ull << 40) + 1,
                                         1ull << 53,
                                         1ull << 62,
                                         1ull << 63,
                                         ~0ull,
                                         ~0ull - 1};
    return choose.one_in(4) ? choose.next() >> choose.below(64) : choose.of(edges);
}

void mutate(Choices& choose, Bytes& bytes) {
    if (bytes.empty()) bytes.push_back(0);
    const auto n = static_cast<int64_t>(bytes.size());
    const int64_t width = std::min<int64_t>(n, int64_t{1} << choose.below(4));
    // Numbers of the tables lie at multiples of four.
    const auto at = static_cast<size_t>(choose.one_in(3) ? choose.below(n - width + 1) : choose.below(n - width + 1) / 4 * 4);
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    uint64_t number = 0;
    std::memcpy(&number, &bytes[at], static_cast<size_t>(width));
    switch (choose.below(7)) {
    case 0:
        bytes[at] ^= static_cast<uint8_t>(1 << choose.below(8));
        return;
    case 1:
        number = odd_number(choose);
        break;
    case 2:
    case 3:
        number += static_cast<uint64_t>(choose.between(-70, 70));
        break;
    case 4: {  // another place's bytes
        const auto other = static_cast<size_t>(choose.below(n - width + 1));
        std::memcpy(&number, &bytes[other], static_cast<size_t>(width));
        break;
    }
    case 5:
        bytes.erase(from, from + std::min<int64_t>(n - static_cast<int64_t>(at), choose.between(1, 64)));
        return;
    default:
        bytes.insert(from, static_cast<size_t>(choose.between(1, 64)), static_cast<uint8_t>(choose.next()));
        return;
    }
    std::memcpy(&bytes[at], &number, static_cast<size_t>(width));
}

Bytes mutated(Choices& choose, const Bytes& good) {
    const int64_t times = choose.between(1, 5);
    if (choose.one_in(8)) {
        Bytes raw = good;
        for (int64_t i = 0; i < times; ++i)
            mutate(choose, raw);
        return raw;
    }
    std::vector<Section> sections = split(good);
    for (int64_t i = 0; i < times; ++i) {
        const int64_t which = choose.below(16);
        Section& section = sections[which < 1 ? 0 : which < 11 ? 1 : 2];
        mutate(choose, choose.one_in(40) ? section.head : section.payload);
        section.head.resize(section_header_bytes);
    }
    return sealed({good.begin(), good.begin() + header_bytes}, sections);
}

// What one may do with a sequence, statuses aside: none may be a fault of the library's own.
class Exercise {
public:
    explicit Exercise(Session& session) : session_(session), cache_(session.replay.cache()) {}

    void all(const std::vector<kvc_seq>& seqs) {
        int64_t bytes = 0;
        REQUIRE(kvc_snapshot_export(cache_, seqs.data(), static_cast<int64_t>(seqs.size()), nullptr, 0, &bytes, nullptr) == KVC_OK);
        Bytes again(static_cast<size_t>(bytes));
        REQUIRE(kvc_snapshot_export(cache_, seqs.data(), static_cast<int64_t>(seqs.size()), again.data(), bytes, &bytes, nullptr) ==
                KVC_OK);
        const Imported twin = import(session_, again);
        REQUIRE_MESSAGE(twin.status == KVC_OK, twin.message);
        for (const kvc_seq seq : twin.seqs)
            REQUIRE(kvc_seq_destroy(cache_, seq, nullptr) == KVC_OK);
        for (const kvc_seq seq : seqs)
            one(seq);
        for (const kvc_seq seq : seqs)
            REQUIRE(kvc_seq_destroy(cache_, seq, nullptr) == KVC_OK);
        REQUIRE(session_.stats()[2] == 0);
    }

private:
    static void fine(kvc_status status) { REQUIRE(status != KVC_E_INTERNAL); }

    // Through the prefix index: an entry, what a lookup takes of it, and their end.
    void share(kvc_seq seq) {
        kvc_seq_stats stats = {};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_seq_stats_get(cache_, seq, &stats, nullptr) == KVC_OK);
        if (stats.tokens > 1 << 16) return;
        const std::vector<int64_t> tokens(static_cast<size_t>(stats.tokens) + 2, 7);
        fine(kvc_prefix_publish(cache_, seq, tokens.data(), stats.tokens, nullptr, 0, nullptr, nullptr));
        kvc_prefix_hit hit = {};
        hit.struct_size = sizeof hit;
        const kvc_seq found =
            kvc_prefix_lookup(cache_, tokens.data(), static_cast<int64_t>(tokens.size()), nullptr, 0, nullptr, &hit, nullptr);
        if (found) {
            step(found);
            read(found);
            REQUIRE(kvc_seq_destroy(cache_, found, nullptr) == KVC_OK);
        }
        REQUIRE(kvc_prefix_clear(cache_, nullptr) == KVC_OK);
    }

    void one(kvc_seq seq) {
        int64_t length = 0, floor = 0;
        REQUIRE(kvc_seq_length(cache_, seq, &length, nullptr) == KVC_OK);
        REQUIRE(kvc_seq_exact_floor(cache_, seq, &floor, nullptr) == KVC_OK);
        read(seq);
        for (const int64_t cut : {length, floor, (length + floor) / 2, length - 70}) {
            const kvc_seq fork = kvc_seq_fork(cache_, seq, cut, KVC_CUT_INEXACT, nullptr);
            if (!fork) continue;
            step(fork);
            read(fork);
            REQUIRE(kvc_seq_destroy(cache_, fork, nullptr) == KVC_OK);
        }
        step(seq);
        fine(kvc_step_down(cache_, seq, nullptr, nullptr, nullptr));
        share(seq);
        fine(kvc_evict_keep(cache_, seq, nullptr, 0, nullptr, nullptr, nullptr));
        fine(kvc_evict(cache_, seq, nullptr, 0, nullptr, nullptr, nullptr));
        fine(kvc_seq_truncate(cache_, seq, floor, KVC_CUT_INEXACT, nullptr));
        step(seq);
        read(seq);
    }

    void read(kvc_seq seq) {
        for (int64_t layer = 0; layer < session_.replay.shapes().options.layers; ++layer)
            for (int64_t head = 0; head < session_.replay.shapes().layers[static_cast<size_t>(layer)].kv_heads; ++head) {
                int64_t live = 0;
                REQUIRE(kvc_seq_live(cache_, seq, layer, head, &live, nullptr) == KVC_OK);
                std::vector<int64_t> numbers(static_cast<size_t>(live));
                REQUIRE(kvc_seq_positions(cache_, seq, layer, head, numbers.data(), live, nullptr, nullptr) == KVC_OK);
                fine(kvc_seq_read_mass(cache_, seq, layer, head, numbers.data(), live, nullptr, nullptr));
                std::vector<float> rows(static_cast<size_t>(live) * 64);
                for (const int32_t part : {KVC_KEYS, KVC_VALUES})
                    fine(kvc_seq_read(cache_, seq, layer, head, part, 0, live, rows.data(), live * 256, nullptr));
            }
    }

    // Tokens for a sequence that is not absurdly long: scratch is sized by its length.
    void step(kvc_seq seq) {
        int64_t length = 0, count = 0;
        REQUIRE(kvc_seq_length(cache_, seq, &length, nullptr) == KVC_OK);
        REQUIRE(kvc_seq_step_limit(cache_, seq, &count, nullptr) == KVC_OK);
        count = std::min<int64_t>(count, 70);
        kvc_seq_stats stats{};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_seq_stats_get(cache_, seq, &stats, nullptr) == KVC_OK);
        if (stats.tokens > 1 << 20) return;
        kvc_step* step = kvc_step_begin(cache_, &seq, &count, 1, nullptr, 0, nullptr, nullptr);
        if (!step) return;
        std::vector<float> k(70 * 2 * 64, 0.5f), q(70 * 4 * 64, 0.25f), out(70 * 4 * 64);
        const auto bytes = [](const std::vector<float>& x) { return static_cast<int64_t>(x.size() * 4); };
        for (int64_t layer = 0; layer < session_.replay.shapes().options.layers; ++layer) {
            REQUIRE(kvc_append(step, layer, k.data(), bytes(k), k.data(), bytes(k), nullptr) == KVC_OK);
            REQUIRE(kvc_attend(step, layer, q.data(), bytes(q), out.data(), bytes(out), nullptr, 0, nullptr, nullptr) == KVC_OK);
        }
        REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
    }

    Session& session_;
    kvc_cache* cache_;
};

int64_t number_of(const char* variable, int64_t otherwise) {
    const char* text = std::getenv(variable);
    return text && *text ? std::atoll(text) : otherwise;
}

}  // namespace

// KVC_FUZZ_SECONDS: how long, instead of a fixed number of inputs. KVC_FUZZ_SEED: another series. KVC_FUZZ_FROM: where in it to begin;
// input i of a series is always the same.
TEST_CASE("snapshot fuzz: mutated snapshots are refused with a status or become sequences like all others") {
    const int64_t seconds = number_of("KVC_FUZZ_SECONDS", 0), from = number_of("KVC_FUZZ_FROM", 0);
    const auto seed = static_cast<uint64_t>(number_of("KVC_FUZZ_SEED", 1));
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start).count();
    };
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Bytes> corpus;
    for (const Golden& golden : goldens()) {
        corpus.push_back(golden.bytes());
        sessions.push_back(std::make_unique<Session>(golden.create));
    }
    int64_t taken = 0, corrupt = 0, other = 0, i = from, shown = 0;
    for (; seconds > 0 ? (i % 64 != 0 || elapsed() < seconds) : i < from + 4000; ++i) {
        CAPTURE(seed);
        CAPTURE(i);
        Choices choose(kvc_reference::key(seed, static_cast<uint64_t>(i)));
        const auto which = static_cast<size_t>(choose.below(static_cast<int64_t>(corpus.size())));
        CAPTURE(goldens()[which].name);
        const Bytes bytes = mutated(choose, corpus[which]);
        const Imported imported = import(*sessions[which], bytes, 64);
        REQUIRE(imported.status != KVC_E_INTERNAL);
        taken += imported.status == KVC_OK;
        corrupt += imported.status == KVC_E_CORRUPT;
        other += imported.status != KVC_OK && imported.status != KVC_E_CORRUPT;
        if (imported.status == KVC_OK) Exercise(*sessions[which]).all(imported.seqs);
        if (seconds > 0 && elapsed() >= shown + 60) {
            shown = elapsed();
            std::printf("fuzz: %lld s, input %lld\n", static_cast<long long>(shown), static_cast<long long>(i));
            std::fflush(stdout);
        }
    }
    for (const auto& session : sessions)
        CHECK(session->stats()[2] == 0);
    CHECK(taken > 0);
    CHECK(corrupt > 0);
    CHECK(other > 0);
    std::printf("fuzz: seed %llu | %lld s | %lld inputs | %lld taken | %lld damaged | %lld refused otherwise\n",
                static_cast<unsigned long long>(seed), static_cast<long long>(elapsed()), static_cast<long long>(i - from),
                static_cast<long long>(taken), static_cast<long long>(corrupt), static_cast<long long>(other));
}
