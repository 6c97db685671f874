// Fibers: a switch of the callee-saved registers on x86-64 (KVC_SIMT_UCONTEXT forces the other way), ucontext elsewhere.
#include "kernels/simt/fiber.h"

#include <cstdint>
#include <utility>

#if !defined(__x86_64__) || defined(KVC_SIMT_UCONTEXT)
#include <ucontext.h>
#define KVC_SIMT_HAS_SWITCH 0
#else
#define KVC_SIMT_HAS_SWITCH 1
#endif

#if defined(__SANITIZE_ADDRESS__) && !defined(KVC_SIMT_ASAN)
#define KVC_SIMT_ASAN
#endif
#ifdef KVC_SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace kvc::simt {

#if KVC_SIMT_HAS_SWITCH

// Saves the stack pointer of who calls at *from and continues at what was saved in to. The six registers are what
// a function must preserve beside the control words of the floating-point units, which no kernel changes.
extern "C" void kvc_simt_switch(void** from, void* to);
asm(R"(
.text
.globl kvc_simt_switch
.type kvc_simt_switch, @function
kvc_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size kvc_simt_switch, .-kvc_simt_switch
)");

#endif

struct Fiber::Context {
#if KVC_SIMT_HAS_SWITCH
    void* stack_pointer = nullptr;
#else
    ucontext_t context = {};
#endif
    void* fake_stack = nullptr;  // the address sanitizer's
};

// On the stack of resume() until a fiber that it led to suspends.
struct Fiber::Resumer {
    Context context;
    // What the address sanitizer must know of its stack; the first fiber learns it.
    const void* stack = nullptr;
    size_t stack_bytes = 0;
};

// A new stack knows nothing: the fiber that begins on it is passed beside it.
static thread_local Fiber* starting = nullptr;

void fiber_entry(Fiber* fiber) { fiber->run(); }
static void enter() { fiber_entry(starting); }

Fiber::Fiber(size_t stack_bytes)
    : context_(std::make_unique<Context>()),
      stack_(std::make_unique_for_overwrite<std::byte[]>(stack_bytes)),
      stack_bytes_(stack_bytes) {}

Fiber::~Fiber() = default;

void Fiber::start(std::function<void()> body) {
    body_ = std::move(body);
    done_ = false;
#if KVC_SIMT_HAS_SWITCH
    // The layout that the switch expects: six registers, the address to return to, and the alignment of a called function.
    const uintptr_t top = (reinterpret_cast<uintptr_t>(stack_.get()) + stack_bytes_) & ~uintptr_t{15};
    void** sp = reinterpret_cast<void**>(top);
    *--sp = nullptr;
    *--sp = reinterpret_cast<void*>(&enter);
    for (int i = 0; i < 6; i++) {
        *--sp = nullptr;
    }
    context_->stack_pointer = sp;
#else
    ucontext_t& context = context_->context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack_.get();
    context.uc_stack.ss_size = stack_bytes_;
    context.uc_link = nullptr;
    makecontext(&context, &enter, 0);
#endif
}

// Saves where `from` continues, and goes where `to` does.
static void switch_stacks(auto& from, auto& to) {
#if KVC_SIMT_HAS_SWITCH
    kvc_simt_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
}

// What comes first on a stack that was switched to.
void Fiber::arrive([[maybe_unused]] Context& on, [[maybe_unused]] Resumer* resumer) {
#ifdef KVC_SIMT_ASAN
    const void* stack = nullptr;
    size_t stack_bytes = 0;
    __sanitizer_finish_switch_fiber(on.fake_stack, &stack, &stack_bytes);
    if (resumer && !resumer->stack) {
        resumer->stack = stack;
        resumer->stack_bytes = stack_bytes;
    }
#endif
}

void Fiber::run() {
    arrive(*context_, resumer_);
    body_();
    done_ = true;
    suspend();  // does not come back: resume() is not called on a fiber that is done
}

void Fiber::resume() {
    Resumer resumer;
    resumer_ = &resumer;
    starting = this;
#ifdef KVC_SIMT_ASAN
    __sanitizer_start_switch_fiber(&resumer.context.fake_stack, stack_.get(), stack_bytes_);
#endif
    switch_stacks(resumer.context, *context_);
    arrive(resumer.context, nullptr);
}

void Fiber::suspend() {
    Resumer& resumer = *resumer_;
#ifdef KVC_SIMT_ASAN
    // No fake stack is kept of a fiber that ends.
    __sanitizer_start_switch_fiber(done_ ? nullptr : &context_->fake_stack, resumer.stack, resumer.stack_bytes);
#endif
    switch_stacks(*context_, resumer.context);
    arrive(*context_, resumer_);
}

void Fiber::give_way_to(Fiber& next) {
    next.resumer_ = resumer_;
    starting = &next;
#ifdef KVC_SIMT_ASAN
    __sanitizer_start_switch_fiber(&context_->fake_stack, next.stack_.get(), next.stack_bytes_);
#endif
    switch_stacks(*context_, *next.context_);
    arrive(*context_, resumer_);
}

}  // namespace kvc::simt
