#include "kernels/cuda/place.h"

#include <string>

#include "kernels/cuda/runtime.h"

namespace kvc::cuda {
namespace {

using runtime::Owner;
using runtime::Place;

bool serves(const Place& place, int ordinal, bool on_device) {
    if (place.owner == Owner::all) {
        return true;
    }
    return on_device ? place.owner == Owner::device && place.ordinal == ordinal : place.owner == Owner::host;
}

std::string name_of(const Place& place) {
    return place.owner == Owner::device ? "CUDA device " + std::to_string(place.ordinal) : std::string("the host");
}

}  // namespace

Status check_place(const void* p, int64_t bytes, int ordinal, bool on_device) {
    const Place wanted = {on_device ? Owner::device : Owner::host, ordinal};
    const Result<Place> first = runtime::place_of(p);
    if (!first.ok()) {
        return first.status();
    }
    if (!serves(*first, ordinal, on_device)) {
        return fail(Code::argument, "is memory of ", name_of(*first), ", not of ", name_of(wanted));
    }
    // As a number: what a caller says may go beyond all addresses.
    const Result<Place> last = runtime::place_of(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(bytes) - 1));
    if (!last.ok()) {
        return last.status();
    }
    if (!serves(*last, ordinal, on_device)) {
        return fail(Code::argument, "is memory of ", name_of(wanted), ", but not all of its ", bytes, " bytes");
    }
    return {};
}

}  // namespace kvc::cuda
