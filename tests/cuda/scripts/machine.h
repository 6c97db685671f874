// What the tests of this folder ask of the machine beneath them. The emulated devices are steered and counted; a GPU goes its own way, and
// what cannot be seen from outside of it is not checked there.
#pragma once
#include <cstdint>
#include <kvc.h>

namespace kvc_cuda_scripts {

// Selects a device that caches are not on, where there is one, so that a call which forgets to select its own is noticed. Which one it is.
int select_another_device();
int selected_device();

// As long as it lives, the device works in an order of its own. No call meanwhile may name what is another device's.
class Order {
public:
    explicit Order(uint64_t streams);
    Order(uint64_t streams, uint64_t lanes);  // and the lanes of a block theirs
    ~Order();
    Order(const Order&) = delete;
    Order& operator=(const Order&) = delete;

private:
    int64_t strays_;
};

// That a call brings nothing to the host and does not wait for the device. What is still to be settled is waited for at first.
class Quiet {
public:
    explicit Quiet(kvc_cache* cache);
    void check() const;

private:
    kvc_cache* cache_;
    int64_t copies_, waits_, strays_;
};

}  // namespace kvc_cuda_scripts
