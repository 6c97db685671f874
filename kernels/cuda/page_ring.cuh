// A warp's pages on their way: a ring of slots in shared memory that bulk copies fill ahead of the arithmetic, so that loads from
// memory are always in flight and no register holds them (PTX: cp.async.bulk with an mbarrier; sm_90 and later).
#pragma once
#include "kernels/cuda/query_tile.cuh"
#include "kernels/cuda/shared_memory.cuh"

namespace kvc::cuda {

constexpr int ring_slots_max = 4;

// How a block's dynamic shared memory is cut: barriers of all warps, then the slots of each.
struct RingShape {
    int slots = 0;  // of each warp; 0: pages are read from global memory
    int slot_bytes = 0;

    KVC_HOST_DEVICE constexpr int barrier_bytes() const { return warps * ring_slots_max * int(sizeof(simt::CopyBarrier)); }
    KVC_HOST_DEVICE constexpr int bytes() const { return barrier_bytes() + warps * slots * slot_bytes; }
};

// Blocks of the decode kernel of which a multiprocessor is to hold so many. With three, registers are so few that the products of a page
// wait for each other.
constexpr int resident_blocks = 2;

// Two slots, one on its way while the other is read: more were slower. One, where two would cost the second block, which is worth more.
// None, where a block may not have even that. static_bytes: of shared memory beside the ring; most: what a block may have.
KVC_HOST_DEVICE constexpr RingShape shape_ring(int slot_bytes, int static_bytes, int most) {
    const RingShape two{2, slot_bytes}, one{1, slot_bytes};
    const int rest = most - static_bytes - shared_of_runtime, half = most / 2 - static_bytes - shared_of_runtime;
    if (two.bytes() <= half || (one.bytes() > half && two.bytes() <= rest)) {
        return two;
    }
    return one.bytes() <= rest ? one : RingShape{};
}

// What the decode kernel has on an architecture. A function of nothing else, so that its code and its launch agree.
template <PageKind kind, int KD, int VD>
KVC_HOST_DEVICE constexpr RingShape decode_ring(int arch) {
    if (arch < bulk_copies_since) {
        return {};
    }
    const int rest_of_queries = kind == PageKind::bf16_rows ? int(sizeof(QueryRest<KD>)) : 0;
    return shape_ring(holds_rows<kind> ? 16 * (KD + VD) * 2 : CodeRecord<kind, KD, VD>::bytes, rest_of_queries, block_shared_of(arch));
}

// Whether pages come through a ring; otherwise they are read from where they lie.
template <PageKind kind, int KD, int VD>
KVC_DEVICE constexpr bool has_ring() {
    return decode_ring<kind, KD, VD>(simt::architecture()).slots > 0;
}

class PageRing {
public:
    // By all lanes; no slot is filled yet.
    KVC_DEVICE PageRing(const RingShape& shape, std::byte* shared) : shape_(shape) {
        barriers_ = reinterpret_cast<simt::CopyBarrier*>(shared) + simt::warp() * ring_slots_max;
        slots_ = shared + shape.barrier_bytes() + simt::warp() * shape.slots * shape.slot_bytes;
        if (simt::lane() < shape.slots) {
            simt::init(barriers_ + simt::lane());
        }
        simt::sync_warp();
    }

    KVC_DEVICE int slots() const { return shape_.slots; }

    // The next slot takes `bytes` from `first`, and behind them as many from `second`, if there is one.
    KVC_DEVICE void fill(const std::byte* first, int bytes, const std::byte* second = nullptr, int second_bytes = 0) {
        if (simt::lane() == 0) {
            simt::CopyBarrier* const barrier = barriers_ + next_fill_;
            std::byte* const slot = slots_ + next_fill_ * shape_.slot_bytes;
            simt::expect(barrier, bytes + second_bytes);
            simt::bulk_copy(slot, first, bytes, barrier);
            if (second) {
                simt::bulk_copy(slot + bytes, second, second_bytes, barrier);
            }
        }
        next_fill_ = next_fill_ + 1 == shape_.slots ? 0 : next_fill_ + 1;
    }

    // The bytes of the slot that was filled first, when they have come. They stay until release().
    KVC_DEVICE simt::SharedBytes wait() const {
        simt::wait(barriers_ + next_wait_, parity_);
        return simt::SharedBytes::of(slots_ + next_wait_ * shape_.slot_bytes);
    }

    // No lane reads that slot any more: fill() may take it.
    KVC_DEVICE void release() {
        simt::sync_warp();
        next_wait_++;
        if (next_wait_ == shape_.slots) {
            next_wait_ = 0;
            parity_ ^= 1;
        }
    }

private:
    RingShape shape_;
    simt::CopyBarrier* barriers_;
    std::byte* slots_;
    int next_fill_ = 0, next_wait_ = 0;
    uint32_t parity_ = 0;
};

}  // namespace kvc::cuda
