// The bytes of an arena's records: the host's own, or in a device's memory, where they are copied from and to.
//
// A device that fails is noted instead of reported: whoever writes here is past the point where a call can be refused. The cache asks
// fault() at its boundary.
#include <algorithm>
#include <cstring>

#include "core/store/arena.h"

namespace kvc {

std::byte* Arena::data(RecordId id) const {
    const Slab& slab = slabs_[slab_of(id)];
    return slab_data_[slab_of(id)] + int64_t(index_of(id)) * classes_[size_t(slab.size_class)].record_bytes;
}

Status Arena::fault() const {
    if (!failed_) return {};
    std::lock_guard lock(fault_mutex_);
    return fault_;
}

void Arena::note_fault(const Status& status) const {
    if (status.ok()) return;
    std::lock_guard lock(fault_mutex_);
    // A capture that stood in the way here has cost the cache as a fault does, and is none to ask for again.
    if (!failed_) fault_ = status.code == Code::capture ? fail(Code::device, status.message) : status;
    failed_ = true;
}

const std::byte* Arena::fetch(RecordId id, std::vector<std::byte>& room) const {
    if (!options_.device) return data(id);
    const int64_t bytes = record_bytes(class_of_record(id));
    room.resize(size_t(bytes));
    const Status read = failed_ ? fault() : options_.device->read(data(id), room.data(), bytes);
    if (!read.ok()) std::fill(room.begin(), room.end(), std::byte{0});
    note_fault(read);
    return room.data();
}

void Arena::put(RecordId id, const std::byte* bytes) {
    const int64_t n = record_bytes(class_of_record(id));
    if (!options_.device) {
        std::copy_n(bytes, n, data(id));
    } else if (!failed_) {
        note_fault(options_.device->write(data(id), bytes, n));
    }
}

void Arena::copy(RecordId from, RecordId to) {
    const int64_t n = record_bytes(class_of_record(from));
    if (!options_.device) {
        std::copy_n(data(from), n, data(to));
        return;
    }
    if (keeps_sides(n)) slabs_[slab_of(to)].sides[index_of(to)] = slabs_[slab_of(from)].sides[index_of(from)];
    if (!failed_) note_fault(options_.device->copy(data(from), data(to), n));
}

void Arena::recode(std::span<const RecodeParams> jobs) {
    if (!failed_) note_fault(options_.device->recode(jobs));
}

// A refusal changes nothing; what else goes wrong costs the device.
Status Arena::answered(const Status& status) const {
    if (status.code == Code::device) note_fault(status);
    return status;
}

Status Arena::measure(std::span<const StatisticJob> jobs) const { return failed_ ? fault() : answered(options_.device->measure(jobs)); }

Status Arena::route(std::span<const RouteJob> jobs) const { return failed_ ? fault() : answered(options_.device->route(jobs)); }

Status Arena::fold(std::span<const FoldJob> jobs) const { return failed_ ? fault() : answered(options_.device->fold(jobs)); }

void Arena::store(std::span<const StoreParams> jobs) {
    if (!failed_) note_fault(options_.device->store(jobs));
}

void Arena::fetch_numbers(const float* there, std::span<float> out) const {
    const Status read = failed_ ? fault()
                                : options_.device->read(reinterpret_cast<const std::byte*>(there),
                                                        reinterpret_cast<std::byte*>(out.data()), int64_t(out.size_bytes()));
    if (!read.ok()) std::fill(out.begin(), out.end(), 0.0f);
    note_fault(read);
}

void Arena::put_from(RecordId id, const std::byte* there) {
    if (!failed_) note_fault(options_.device->copy(there, data(id), record_bytes(class_of_record(id))));
}

const PageSide& Arena::side(RecordId id) const {
    if (options_.device) return slabs_[slab_of(id)].sides[index_of(id)];
    return *reinterpret_cast<const PageSide*>(data(id));
}

void Arena::put_side(RecordId id, const PageSide& side) {
    if (options_.device) note_side(id, side);
    put(id, reinterpret_cast<const std::byte*>(&side));
}

void Arena::note_side(RecordId id, const PageSide& side) { slabs_[slab_of(id)].sides[index_of(id)] = side; }

}  // namespace kvc
