// The emulator itself: its primitives against their definitions, and that it reports what a GPU would not forgive.
#include <array>
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include "core/codec/codec.h"
#include "core/codec/format.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/query_tile.cuh"

using namespace kvc;
using simt::LaneOrder;
using simt::Machine;

namespace {

// Runs a body on one warp and returns the fault's text, or "".
template <class Body>
std::string fault_of(int threads, const Body& body, LaneOrder order = LaneOrder::forward) {
    Machine machine(order);
    try {
        machine.launch(1, 1, threads, body);
    } catch (const simt::Fault& fault) {
        return fault.what();
    }
    return "";
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

const LaneOrder orders[] = {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random};

}  // namespace

TEST_CASE("mma: is the matrix product of its fragments, subnormals included") {
    std::mt19937 random(3);
    float a[16][16], b[16][8], c[16][8];
    for (auto& row : a) {
        for (float& x : row) {
            x = f32_from_f16(uint16_t(random() & 0x83ff));  // subnormals: what codes are
        }
    }
    for (int i = 0; i < 128; ++i) {
        b[i / 8][i % 8] = f32_from_f16(f16_from_f32(float(int(random() % 2000) - 1000)));
        c[i / 8][i % 8] = float(random() % 100) * 0x1p-14f;
    }
    float out[16][8] = {};
    const auto halves = [](float low, float high) { return simt::pack_halves(low, high); };
    for (const LaneOrder order : orders) {
        CHECK(fault_of(
                  32,
                  [&] {
                      const int g = simt::lane() / 4, q = 2 * (simt::lane() % 4);
                      float acc[4] = {c[g][q], c[g][q + 1], c[g + 8][q], c[g + 8][q + 1]};
                      simt::mma(acc, halves(a[g][q], a[g][q + 1]), halves(a[g + 8][q], a[g + 8][q + 1]),
                                halves(a[g][q + 8], a[g][q + 9]), halves(a[g + 8][q + 8], a[g + 8][q + 9]),
                                halves(b[q][g], b[q + 1][g]), halves(b[q + 8][g], b[q + 9][g]));
                      for (int i = 0; i < 4; ++i) {
                          out[g + i / 2 * 8][q + i % 2] = acc[i];
                      }
                  },
                  order)
                  .empty());
        for (int m = 0; m < 16; ++m) {
            for (int n = 0; n < 8; ++n) {
                double exact = c[m][n], size = std::abs(c[m][n]);
                for (int k = 0; k < 16; ++k) {
                    exact += double(a[m][k]) * double(b[k][n]);
                    size += std::abs(double(a[m][k]) * double(b[k][n]));
                }
                REQUIRE(std::abs(double(out[m][n]) - exact) <= 17 * 0x1p-24 * size);
            }
        }
    }
}

TEST_CASE("transpose, shuffle and any do what their names say") {
    std::vector<uint32_t> transposed(32);
    std::vector<float> from(32), across(32);
    std::vector<int> some(32), none(32);
    CHECK(fault_of(32, [&] {
              const uint32_t l = uint32_t(simt::lane());
              // The matrix whose element (row, column) is 8 row + column.
              transposed[l] = simt::transpose_8x8((2 * l) | (2 * l + 1) << 16);
              from[l] = simt::shuffle(float(l), int(31 - l));
              across[l] = simt::shuffle_xor(float(l), 5);
              some[l] = simt::any(l == 17);
              none[l] = simt::any(false);
          }).empty());
    for (uint32_t l = 0; l < 32; ++l) {
        const uint32_t row = l / 4, column = 2 * (l % 4);
        CHECK(transposed[l] == ((8 * column + row) | (8 * (column + 1) + row) << 16));
        CHECK(from[l] == float(31 - l));
        CHECK(across[l] == float(l ^ 5));
        CHECK(some[l] == 1);
        CHECK(none[l] == 0);
    }
}

TEST_CASE("numbers: byte permutation, packing and the power of two are the device's") {
    CHECK(simt::permute_bytes(0x44332211, 0x88776655, 0x5410) == 0x66552211);
    CHECK(simt::permute_bytes(0x44332211, 0, 0x4342) == 0x00440033);
    CHECK(simt::pack_halves(1.0f, -2.0f) == 0xc0003c00);
    CHECK(simt::multiply_halves(simt::pack_halves(3.0f, 32768.0f), simt::pack_halves(0.5f, 255 * 0x1p-24f)) ==
          simt::pack_halves(1.5f, 255 * 0x1p-9f));
    CHECK(simt::exp2(-INFINITY) == 0.0f);
    CHECK(simt::exp2(-127.0f) == 0.0f);  // flushed, as ex2.approx.ftz does
    CHECK(simt::exp2(-126.0f) == 0x1p-126f);
    CHECK(simt::exp2(3.0f) == 8.0f);
}

TEST_CASE("a lane that misses a collective is reported, with who waits and where") {
    for (const LaneOrder order : orders) {
        const std::string fault = fault_of(
            64,
            [] {
                if (simt::thread() == 37) {
                    return;
                }
                simt::sync_warp();
            },
            order);
        INFO(fault);
        CHECK(contains(fault, "missed a collective"));
        CHECK(contains(fault, "thread 37 on left the kernel"));
        CHECK(contains(fault, "emulator.cpp"));
    }
    CHECK(contains(fault_of(64,
                            [] {
                                if (simt::warp() == 0) {
                                    simt::sync_block();
                                }
                            }),
                   "missed a collective"));
}

TEST_CASE("lanes of one warp at different collectives are reported") {
    const std::string fault = fault_of(32, [] {
        if (simt::lane() < 16) {
            simt::sync_warp();
        } else {
            simt::sync_warp();
        }
    });
    INFO(fault);
    CHECK(contains(fault, "different collectives"));
}

TEST_CASE("misaligned addresses are reported, aligned ones load their bytes") {
    alignas(16) static uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const auto* const bytes = reinterpret_cast<const std::byte*>(words);
    CHECK(fault_of(32, [&] {
              if (simt::load_128(bytes + 16).w[3] != 8 || simt::load_64(bytes + 8).w[1] != 4 || simt::load_32(bytes + 4) != 2) {
                  simt::sync_block();
              }
          }).empty());
    CHECK(contains(fault_of(32, [&] { simt::load_128(bytes + 8); }), "16 bytes is misaligned"));
    CHECK(contains(fault_of(32, [&] { simt::load_64(bytes + 4); }), "8 bytes is misaligned"));
    CHECK(contains(fault_of(32, [&] { simt::load_32(bytes + 2); }), "4 bytes is misaligned"));
    // Single numbers of callers' buffers, which are no kernel's own.
    const auto* const whole = reinterpret_cast<const char*>(words);
    CHECK(fault_of(32, [&] { kvc::cuda::load_number<Dtype::f16>(whole + 2, 0); }).empty());
    CHECK(contains(fault_of(32, [&] { kvc::cuda::load_number<Dtype::f32>(whole + 2, 0); }), "4 bytes is misaligned"));
    CHECK(contains(fault_of(32, [&] { kvc::cuda::load_number<Dtype::f16>(whole + 1, 0); }), "2 bytes is misaligned"));
    CHECK(contains(fault_of(32, [&] { kvc::cuda::load_number<Dtype::bf16>(whole + 1, 0); }), "2 bytes is misaligned"));
    const std::vector<float> states(66, 1.0f);
    const FinishTile tile{states.data(), 1, 1, 66, 0};
    const LayerFormat format = *make_format(*parse_codec("fp16"), 64, 64);
    std::vector<float> room(80, -1.0f);
    char* const out = reinterpret_cast<char*>(room.data());
    const auto finish = [&](int64_t out_off, Dtype dtype, int64_t lse_off) {
        const FinishCall call{&format, 1, nullptr, dtype, out + out_off, 64, 64, reinterpret_cast<float*>(out + 288 + lse_off),
                              nullptr};
        Machine machine;
        try {
            kvc::cuda::launch_finish(call, &tile, 1, 1, &machine);
        } catch (const simt::Fault& fault) {
            return std::string(fault.what());
        }
        return std::string();
    };
    CHECK(contains(finish(2, Dtype::f32, 0), "4 bytes is misaligned"));
    CHECK(contains(finish(1, Dtype::bf16, 0), "2 bytes is misaligned"));
    CHECK(room == std::vector<float>(80, -1.0f));
    CHECK(contains(finish(0, Dtype::f16, 2), "4 bytes is misaligned"));
    CHECK(finish(2, Dtype::f16, 4).empty());
}

TEST_CASE("launches that CUDA refuses are reported, and run nothing") {
    const int limit = simt::grid_y_limit;
    int ran = 0;
    const auto fault_at = [&](int blocks_x, int blocks_y, int threads) {
        Machine machine;
        try {
            machine.launch(blocks_x, blocks_y, threads, [&] { ran++; });
        } catch (const simt::Fault& fault) {
            return std::string(fault.what());
        }
        return std::string();
    };
    for (const auto& [x, y, threads] : {std::array{0, 1, 32}, {1, 0, 32}, {-1, 1, 32}, {1, limit + 1, 32}, {1, 1, 0}, {1, 1, 1025}}) {
        CHECK(contains(fault_at(x, y, threads), "invalid configuration"));
    }
    CHECK(ran == 0);
    CHECK(fault_at(1, limit, 1).empty());
    CHECK(fault_at(limit + 1, 1, 1).empty());
    CHECK(ran == 2 * limit + 1);
}

TEST_CASE("shared memory is one for the block, NaN before it is written, and limited") {
    std::vector<float> seen(64);
    int numbers_at_start = 0;
    Machine machine;
    for (int launch = 0; launch < 2; ++launch) {
        machine.launch(3, 2, 64, [&] {
            KVC_SHARED(float[64], row);
            KVC_SHARED(uint16_t[64], halves);
            numbers_at_start += row[simt::thread()] == row[simt::thread()];
            numbers_at_start += (halves[simt::thread()] & 0x7c00) != 0x7c00;
            simt::sync_block();
            row[simt::thread()] = float(simt::thread() + simt::block_x());
            halves[simt::thread()] = 0;
            simt::sync_block();
            seen[size_t(simt::thread())] = row[63 - simt::thread()];
        });
        for (int t = 0; t < 64; ++t) {
            CHECK(seen[size_t(t)] == float(63 - t + 2));
        }
    }
    CHECK(numbers_at_start == 0);
    CHECK(contains(fault_of(32,
                            [] {
                                KVC_SHARED(float[12 * 1024], all);
                                KVC_SHARED(float, more);
                                all[0] = more;
                            }),
                   "shared memory beyond"));
}

TEST_CASE("orders differ, so a missing barrier shows; the same seed gives the same order; a machine lives on after a fault") {
    const auto order_of = [](LaneOrder order, uint64_t seed) {
        std::vector<int> turns;
        Machine machine(order, seed);
        machine.launch(1, 1, 64, [&] { turns.push_back(simt::thread()); });
        return turns;
    };
    const std::vector<int> forward = order_of(LaneOrder::forward, 1), reverse = order_of(LaneOrder::reverse, 1);
    CHECK(forward.front() == 0);
    CHECK(reverse == std::vector<int>(forward.rbegin(), forward.rend()));
    CHECK(order_of(LaneOrder::random, 5) == order_of(LaneOrder::random, 5));
    CHECK(order_of(LaneOrder::random, 5) != order_of(LaneOrder::random, 7));

    Machine machine;
    CHECK_THROWS_AS(machine.launch(1, 1, 32, [] { simt::load_32(reinterpret_cast<const void*>(uintptr_t{2})); }), simt::Fault);
    int ran = 0;
    machine.launch(1, 1, 32, [&] {
        simt::sync_warp();
        ++ran;
    });
    CHECK(ran == 32);
}

TEST_CASE("atomic_min keeps the least") {
    unsigned long long least = 1000;
    CHECK(fault_of(64, [&] { simt::atomic_min(&least, 500ull + (unsigned(simt::thread()) * 37u) % 64u); }).empty());
    CHECK(least == 500);
}
