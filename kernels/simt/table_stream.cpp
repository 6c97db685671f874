#include "kernels/simt/table_stream.h"

#include <pthread.h>

#include "kernels/simt/lane_order.h"
#include "kernels/simt/table.h"

// The program as the linker laid it out.
extern "C" char __executable_start, end;  // NOLINT(bugprone-reserved-identifier)

namespace kvc::simt {
namespace {

thread_local std::unique_ptr<Machine> machine = std::make_unique<Machine>(lane_order_of_run());

struct Range {
    uintptr_t begin, past;
    bool holds(const void* p) const { return reinterpret_cast<uintptr_t>(p) >= begin && reinterpret_cast<uintptr_t>(p) < past; }
};

Range stack_of_this_thread() {
    pthread_attr_t attributes;
    void* low = nullptr;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &low, &bytes);
        pthread_attr_destroy(&attributes);
    }
    return {reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(low) + bytes};
}

}  // namespace

const char* const table_name = "cuda-simt";

Stream table_stream() { return machine.get(); }

void finish_launches() {}

void require_readable(std::initializer_list<const void*> addresses) {
    thread_local const Range stack = stack_of_this_thread();
    const Range program{reinterpret_cast<uintptr_t>(&__executable_start), reinterpret_cast<uintptr_t>(&end)};
    for (const void* const p : addresses) {
        if (stack.holds(p) || program.holds(p)) {
            throw Fault("a test hands over an address that a GPU could not read: on the stack, or static");
        }
    }
}

void set_lane_order(LaneOrder order, uint64_t seed) { machine = std::make_unique<Machine>(order, seed); }

void set_architecture(int architecture) { machine->set_architecture(architecture); }

}  // namespace kvc::simt
