// A thread of control with its own stack, resumed and suspended by hand: one lane of an emulated kernel.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>

namespace kvc::simt {

// The fiber that runs says suspend() and returns into resume(), or gives its place to another, which then does; when its body ends, it is
// done and may start again.
class Fiber {
public:
    explicit Fiber(size_t stack_bytes);
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // What ran on the stack before is forgotten, without running its destructors.
    void start(std::function<void()> body);
    void resume();
    void suspend();
    // One switch in place of the two of suspend() and resume(). next is suspended, or has just started.
    void give_way_to(Fiber& next);
    bool done() const { return done_; }

private:
    friend void fiber_entry(Fiber* fiber);
    void run();
    struct Context;  // where a stack continues
    struct Resumer;  // and who resumed this fiber, or the first of those that gave way in turn
    static void arrive(Context& on, Resumer* resumer);

    std::unique_ptr<Context> context_;
    Resumer* resumer_ = nullptr;
    std::unique_ptr<std::byte[]> stack_;
    size_t stack_bytes_;
    std::function<void()> body_;
    bool done_ = true;
};

}  // namespace kvc::simt
