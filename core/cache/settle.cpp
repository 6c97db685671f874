// What a device says late: faults, and tokens that it could not store. The host's own kernels say so at once, and all of this is idle.
#include <algorithm>

#include "core/cache/cache.h"

namespace kvc {

Status Cache::bad_token(int64_t id, const Sequence& sequence) const {
    return fail(Code::nonfinite, "sequence ", id, ": the token at position ", sequence.first_position + sequence.bad_from,
                " held a number that 16 bits cannot hold, as the device found later; truncate to there or below, or destroy it");
}

void Cache::settle_sequence(Sequence& sequence) const {
    for (const UnsettledStore& store : sequence.unsettled) {
        for (const BadStore& bad : bad_stores_) {
            if (bad.tag == store.tag && bad.token < store.count)
                sequence.bad_from = std::min(sequence.bad_from, store.first + bad.token);
        }
    }
}

Status Cache::synchronize_device() const {
    if (!device_) return {};
    KVC_TRY(arena_->fault());
    KVC_TRY(arena_->answered(device_->synchronize(&bad_stores_)));
    if (unsettled_ > 0) {
        for (const SequenceSlot& slot : slots_) {
            if (!slot.sequence) continue;
            settle_sequence(*slot.sequence);
            slot.sequence->unsettled.clear();
        }
        unsettled_ = 0;
    }
    if (open_steps_ == 0) bad_stores_.clear();  // nobody is left to ask for them
    return {};
}

Status Cache::settle() const { return unsettled_ > 0 ? synchronize_device() : Status{}; }

Result<Cache::Shared> Cache::shared_and_settled() const {
    while (true) {
        Result<Shared> lock = shared();
        if (!lock.ok()) return lock;
        KVC_TRY(arena_->fault());
        if (unsettled_ == 0) return lock;
        lock->unlock();  // a step may commit before the other lock is had, hence the loop
        Result<Exclusive> change = exclusive();
        if (!change.ok()) return change.status();
        KVC_TRY(settle());
    }
}

Status Cache::synchronize() {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    return synchronize_device();
}

}  // namespace kvc
