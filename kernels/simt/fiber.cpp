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
    void* fiber = nullptr;
    void* resumer = nullptr;
#else
    ucontext_t fiber = {};
    ucontext_t resumer = {};
#endif
    // What the address sanitizer must know of the two stacks.
    void* fiber_fake = nullptr;
    void* resumer_fake = nullptr;
    const void* resumer_stack = nullptr;
    size_t resumer_bytes = 0;
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
    context_->fiber = sp;
#else
    getcontext(&context_->fiber);
    context_->fiber.uc_stack.ss_sp = stack_.get();
    context_->fiber.uc_stack.ss_size = stack_bytes_;
    context_->fiber.uc_link = nullptr;
    makecontext(&context_->fiber, &enter, 0);
#endif
}

void Fiber::run() {
#ifdef KVC_SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &context_->resumer_stack, &context_->resumer_bytes);
#endif
    body_();
    done_ = true;
    suspend();  // does not come back: resume() is not called on a fiber that is done
}

void Fiber::resume() {
    starting = this;
#ifdef KVC_SIMT_ASAN
    __sanitizer_start_switch_fiber(&context_->resumer_fake, stack_.get(), stack_bytes_);
#endif
#if KVC_SIMT_HAS_SWITCH
    kvc_simt_switch(&context_->resumer, context_->fiber);
#else
    swapcontext(&context_->resumer, &context_->fiber);
#endif
#ifdef KVC_SIMT_ASAN
    __sanitizer_finish_switch_fiber(context_->resumer_fake, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
#ifdef KVC_SIMT_ASAN
    // No fake stack is kept of a fiber that ends.
    __sanitizer_start_switch_fiber(done_ ? nullptr : &context_->fiber_fake, context_->resumer_stack, context_->resumer_bytes);
#endif
#if KVC_SIMT_HAS_SWITCH
    kvc_simt_switch(&context_->fiber, context_->resumer);
#else
    swapcontext(&context_->fiber, &context_->resumer);
#endif
#ifdef KVC_SIMT_ASAN
    __sanitizer_finish_switch_fiber(context_->fiber_fake, &context_->resumer_stack, &context_->resumer_bytes);
#endif
}

}  // namespace kvc::simt
