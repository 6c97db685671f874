// The emulator's bulk copies: late, poisoned until they are waited for, and every misuse reported.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "kernels/cuda/simt.cuh"

using namespace kvc;
using simt::CopyBarrier;
using simt::LaneOrder;
using simt::Machine;

namespace {

constexpr int shared_bytes = 1024, piece = 256;
const std::vector<std::byte> source(512, std::byte{7});

struct Places {
    CopyBarrier* barrier;
    std::byte* bytes;
};
Places places() { return {reinterpret_cast<CopyBarrier*>(simt::dynamic_shared()), simt::dynamic_shared() + 128}; }

template <class Body>
std::string fault_of(const Body& body, LaneOrder order = LaneOrder::forward) {
    Machine machine(order);
    try {
        machine.launch(1, 1, 32, body, shared_bytes);
    } catch (const simt::Fault& fault) {
        return fault.what();
    }
    return "";
}

// One lane starts a copy for all, as kernels do.
void start(const Places& at, int expected) {
    if (simt::lane() == 0) {
        simt::init(at.barrier);
        simt::expect(at.barrier, expected);
        simt::bulk_copy(at.bytes, source.data(), piece, at.barrier);
    }
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("bulk copies: come when they are waited for, in any order of lanes, phase by phase") {
    for (const LaneOrder order : {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random}) {
        int early = 0, right = 0;
        CHECK(fault_of(
                  [&] {
                      const Places at = places();
                      start(at, piece);
                      simt::sync_warp();
                      early += at.bytes[simt::lane()] == std::byte{7};
                      simt::sync_warp();
                      simt::wait(at.barrier, 0);
                      right += at.bytes[simt::lane()] == std::byte{7};
                      simt::sync_warp();
                      if (simt::lane() == 0) {
                          simt::expect(at.barrier, 2 * piece);
                          simt::bulk_copy(at.bytes, source.data() + piece, piece, at.barrier);
                          simt::bulk_copy(at.bytes + piece, source.data(), piece, at.barrier);
                      }
                      simt::wait(at.barrier, 1);
                      right += at.bytes[piece + simt::lane()] == std::byte{7};
                  },
                  order)
                  .empty());
        CHECK(early == 0);
        CHECK(right == 64);
    }
}

TEST_CASE("bulk copies: what would hang or spoil memory is a fault") {
    CHECK(contains(fault_of([] {
                       const Places at = places();
                       start(at, 2 * piece);
                       simt::wait(at.barrier, 0);
                   }),
                   "waits for copies that nobody starts"));
    CHECK(contains(fault_of([] {
                       const Places at = places();
                       start(at, piece / 2);
                       simt::wait(at.barrier, 0);
                   }),
                   "more bytes were copied"));
    CHECK(contains(fault_of([] {
                       const Places at = places();
                       simt::bulk_copy(at.bytes + 8, source.data(), piece, at.barrier);
                   }),
                   "not in units of 16"));
    CHECK(contains(fault_of([] {
                       const Places at = places();
                       simt::bulk_copy(simt::dynamic_shared() + shared_bytes, source.data(), piece, at.barrier);
                   }),
                   "leaves shared memory"));
    CHECK(contains(fault_of([] {
                       const Places at = places();
                       start(at, piece);
                       if (simt::lane() == 0) {
                           simt::expect(at.barrier, piece);
                       }
                   }),
                   "while 256 bytes are still to come"));
    Machine machine;
    for (const auto& [architecture, kilobytes] : {std::pair{80, 163}, {86, 99}, {89, 99}, {90, 227}, {100, 227}, {120, 99}}) {
        machine.set_architecture(architecture);
        machine.launch(1, 1, 32, [] {}, kilobytes * 1024);
        CHECK_THROWS_AS(machine.launch(1, 1, 32, [] {}, kilobytes * 1024 + 1), simt::Fault);
        const auto take_static = [] { simt::shared_piece<std::array<std::byte, 1024>>(); };
        machine.launch(1, 1, 32, take_static, (kilobytes - 1) * 1024);
        CHECK_THROWS_AS(machine.launch(1, 1, 32, take_static, (kilobytes - 1) * 1024 + 1), simt::Fault);
    }
}
