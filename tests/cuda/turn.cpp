// Keys before RoPE, and queries turned by one angle.
#include "kernels/cuda/turn.cuh"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <numeric>

#include "core/attend/positions.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/simt/table.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

struct Turning {
    std::vector<double> frequencies;
    kvc::Rope rope;
    int64_t gap;
};

Turning turning_of(int dims, bool interleaved, int64_t gap) {
    Turning t{{}, {}, gap};
    for (int i = 0; i < dims / 2; ++i) {
        t.frequencies.push_back(std::pow(10000.0, -2.0 * i / dims));
    }
    t.rope = {t.frequencies.data(), dims, interleaved};
    return t;
}

// The definition, in double, on numbers of type T.
template <class T>
void turn_exactly(const Turning& turning, int64_t position, T* x) {
    const int half = turning.rope.dims / 2;
    for (int i = 0; i < half; ++i) {
        const int a = turning.rope.interleaved ? 2 * i : i, b = turning.rope.interleaved ? 2 * i + 1 : i + half;
        const double angle = double(position) * turning.frequencies[size_t(i)];
        const double first = x[a], second = x[b];
        x[a] = T(first * std::cos(angle) - second * std::sin(angle));
        x[b] = T(first * std::sin(angle) + second * std::cos(angle));
    }
}

// What the reference sees: keys turned. The kernel rounds a key before and after the turn, so its error is as large as both channels of
// the pair; the bound's reach (exact_attention.h) takes them as steps.
void turn_tiles(const Head& head, const Turning& turning, Item* item) {
    const int dim = head.format().k_dim, half = turning.rope.dims / 2;
    for (size_t i = 0; i < item->tiles.size(); ++i) {
        Tile& tile = item->tiles[i];
        const bool sinks = i == 0 && item->item.sinks != 0;
        for (int t = 0; t < page_tokens; ++t) {
            float* const k = tile.k.data() + t * dim;
            float* const step = tile.k_step.data() + t * dim;
            std::vector<float> reach(size_t(dim), 0.0f);
            for (int d = 0; d < dim; ++d) {
                reach[size_t(d)] = std::abs(k[d]) + 2 * step[d] * float(tile.k_last);
            }
            for (int d = 0; d < dim; ++d) {
                const int other = d >= turning.rope.dims ? d : turning.rope.interleaved ? d ^ 1 : d < half ? d + half : d - half;
                step[d] = (reach[size_t(d)] + reach[size_t(other)]) / 2;
            }
            if (tile.live >> t & 1) {
                turn_exactly(turning, tile.position[size_t(t)] - (sinks ? 0 : turning.gap), k);
            }
        }
        tile.k_last = 1;
    }
}

Answer attend_turned(Head& head, Item* item, const Ask& ask, const Turning& turning, const std::vector<float>& q) {
    const int64_t dim = head.format().v_dim, rows = ask.tokens * ask.group;
    Answer answer{std::vector<float>(size_t(rows * (dim + 2)), NAN), std::vector<float>(size_t(rows * dim), NAN),
                  std::vector<float>(size_t(rows), NAN)};
    fill_item(ask, q.data(), &item->item);
    item->item.state = answer.states.data();
    item->item.state_token_stride = ask.group;
    item->item.rope_gap = turning.gap;
    kvc::AttendParams params = params_of(head, ask);
    params.rope = &turning.rope;
    head.table().attend(params, item->item, nullptr);
    for (int64_t row = 0; row < rows; ++row) {
        finish(head.format(), head.table(), answer.states.data() + row * (dim + 2), 1, 0, ask, answer.out.data() + row * dim,
               &answer.lse[size_t(row)]);
    }
    return answer;
}

std::vector<float> turned_queries(const Head& head, const Ask& ask, const Turning& turning, std::vector<float> q) {
    for (int64_t row = 0; row < ask.tokens * ask.group; ++row) {
        turn_exactly(turning, ask.first_position + row / ask.group - turning.gap, q.data() + row * head.format().k_dim);
    }
    return q;
}

struct Case {
    int dims;
    bool interleaved;
    int64_t start, gap;
};

}  // namespace

TEST_CASE("turn: angles of positions up to 2^53 are as good as those of the host") {
    for (double x = 1e-3; x < 0x1p53; x = x * 1.0371 + 0.1) {
        for (const double radians : {x, -x, std::floor(x)}) {
            const kvc::cuda::Angle angle = kvc::cuda::angle_of(radians);
            REQUIRE(std::abs(angle.cosine - std::cos(radians)) < 1e-10);
            REQUIRE(std::abs(angle.sine - std::sin(radians)) < 1e-10);
        }
    }
}

TEST_CASE("turn: attention over keys before RoPE is that over turned keys, in both classes and every form of page") {
    const KernelTable& table = *kvc::simt::cuda_table();
    const int64_t far = (int64_t{1} << 40) + 12345;
    for (const char* codec : {"int4", "int2", "kivi4", "fp16", "bf16", "k=int4.ch.g64.m8,v=int4.tok.rot.sym"}) {
        for (const Case& c : {Case{64, false, 0, 0}, {64, true, 1000, 300}, {32, false, far, far - 50}, {32, true, 77, 0}}) {
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(codec), " dims ", c.dims, " interleaved ", c.interleaved, " gap ", c.gap, " prompt ", prompt_class);
                Head head(table, codec, 64, 64, 4);
                head.start_at(c.start);
                head.set_live(1, 0xfffffffffffff0ffu);
                const int64_t n = head.sinks() + 215;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
                const Turning turning = turning_of(c.dims, c.interleaved, c.gap);
                const Ask ask{.tokens = 5, .group = 3, .first_position = c.start + n - 5, .prompt_class = prompt_class};
                const std::vector<float> q = gaussian(size_t(5 * 3 * 64), 4);
                const Answer answer = attend_turned(head, item.get(), ask, turning, q);
                turn_tiles(head, turning, item.get());
                CHECK(check_answer(head, *item, ask, turned_queries(head, ask, turning, q), answer) <= tolerance(table));
            }
        }
    }
}

TEST_CASE("turn: positions of repacked pages turn keys, and a row's bits do not depend on the other rows") {
    const KernelTable& table = *kvc::simt::cuda_table();
    for (const char* codec : {"int4", "bf16"}) {
        Head head(table, codec, 80, 80, 3);
        std::array<int64_t, page_tokens> positions{};
        for (int64_t t = 0; t < page_tokens; ++t) {
            positions[size_t(t)] = head.sinks() + t + t / 7;
        }
        head.set_positions(0, positions);
        const int64_t n = head.sinks() + 190, first = n - 40;
        const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
        const Turning turning = turning_of(80, false, 3);
        const Ask ask{.tokens = 40, .group = 2, .first_position = first, .prompt_class = true};
        const std::vector<float> q = gaussian(size_t{40} * 2 * 80, 4);
        const Answer tile = attend_turned(head, item.get(), ask, turning, q);
        for (const int64_t from : {0, 13, 39}) {
            Ask part = ask;
            part.tokens = 1;
            part.first_position = first + from;
            const std::vector<float> some(q.begin() + from * 160, q.begin() + (from + 1) * 160);
            const Answer alone = attend_turned(head, item.get(), part, turning, some);
            CHECK(std::memcmp(alone.out.data(), tile.out.data() + from * 160, alone.out.size() * sizeof(float)) == 0);
        }
        turn_tiles(head, turning, item.get());
        CHECK(check_answer(head, *item, ask, turned_queries(head, ask, turning, q), tile) <= tolerance(table));
    }
}

TEST_CASE("turn: the mass of keys before RoPE adds up to one a row, a lone token's exactly") {
    const KernelTable& table = *kvc::simt::cuda_table();
    for (const char* codec : {"int4", "bf16"}) {
        for (const bool prompt_class : {false, true}) {
            INFO(std::string(codec), " prompt ", prompt_class);
            Head head(table, codec, 64, 64, 3);
            const int64_t n = head.sinks() + 150;
            const auto item = head.item_of(n, head.format().lossless ? 0 : 1);
            const Turning turning = turning_of(64, true, 10);
            for (const int64_t window : {int64_t{1}, INT64_MAX}) {
                const Ask ask{.tokens = 2, .group = 2, .first_position = n - 2, .prompt_class = prompt_class, .sliding_window = window};
                const std::vector<float> q = gaussian(2 * 2 * 64, 9);
                const Answer answer = attend_turned(head, item.get(), ask, turning, q);
                std::vector<int64_t> counters(size_t(64 + (item->item.n_coded + item->item.n_window) * page_tokens), 0);
                int64_t* const coded = counters.data() + 64;
                const kvc::MassItem mass{
                    item->item, answer.lse.data(), ask.group, counters.data(), coded, coded + item->item.n_coded * page_tokens};
                kvc::AttendParams params = params_of(head, ask);
                params.rope = &turning.rope;
                table.mass(params, mass, nullptr);
                const int64_t sum = std::accumulate(counters.begin(), counters.end(), int64_t{0}), rows = int64_t{4} << 30;
                CHECK(std::abs(sum - rows) <= (window == 1 ? 0 : rows / 100000));
            }
        }
    }
}

TEST_CASE("turn: queries by one angle are the host's") {
    kvc::simt::Machine machine;
    for (const bool interleaved : {false, true}) {
        const Turning turning = turning_of(48, interleaved, int64_t{1} << 45);
        const std::vector<float> q = gaussian(7 * 100, 3);
        std::vector<float> out(7 * 64, NAN), expected(7 * 64, NAN);
        const kvc::cuda::TurnJob job{q.data(), out.data(), 7, turning.gap};
        kvc::cuda::launch_turn_queries(turning.rope, kvc::Dtype::f32, 100, 64, 64, &job, 1, 7, &machine);
        kvc::turn_queries(turning.rope, turning.gap, q.data(), kvc::Dtype::f32, 100, 7, 64, expected.data(), 64);
        for (size_t i = 0; i < out.size(); ++i) {
            REQUIRE(std::abs(out[i] - expected[i]) <= 1e-6f * (1 + std::abs(expected[i])));
        }
    }
}
