// That the address sanitizer sees what kernels do: one that reads behind a record, on whichever way, does not go unnoticed. The emulator
// itself is not sanitized, so a way of reading that moved into it would be lost to all tests.
#if defined(__SANITIZE_ADDRESS__)
#include <doctest/doctest.h>
#include <functional>
#include <sanitizer/asan_interface.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

constexpr int reported = 42;
constexpr int64_t record_tail = 128;  // records are rounded up to it, so that the very last bytes may be nobody's
bool in_child = false;

// Whether a child that does this ends by a report of the sanitizer, which nobody needs to read; any other end but the good one fails.
bool is_reported(const std::function<void()>& body) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        in_child = true;
        close(STDERR_FILENO);
        body();
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE((WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == reported));
    return WEXITSTATUS(status) == reported;
}

}  // namespace

// The sanitizer calls it before it writes its report.
extern "C" __attribute__((visibility("default"))) void __asan_on_error();
extern "C" void __asan_on_error() {
    if (in_child) _exit(reported);
}

TEST_CASE("past the end: what a kernel reads of a record that ends too soon is reported, of codes, window and sinks, in both classes") {
    for (const char* const codec : {"k=f16,v=f16,sinks=4", "int8", "int4", "int3", "k3v2", "kivi2"})
        for (const bool prompt_class : {false, true}) {
            INFO(codec, prompt_class ? ", prompt" : ", decode");
            Head head(*tables_under_test().front(), codec, 64, 64, 3);
            const auto item = head.item_of(head.sinks() + 3 * kvc::page_tokens, head.format().lossless ? 0 : 1);
            const Ask ask{.group = 2, .first_position = head.sinks() + 3 * kvc::page_tokens - 1, .prompt_class = prompt_class};
            const std::vector<float> q = gaussian(2 * 64, 5);
            CHECK_FALSE(is_reported([&] { attend(head, *item, ask, q); }));
            const auto is_missed = [&](kvc::RecordId record, int64_t bytes) {
                return is_reported([&] {
                    ASAN_POISON_MEMORY_REGION(head.records().at(record) + bytes - record_tail, record_tail);
                    attend(head, *item, ask, q);
                });
            };
            const LayerFormat& f = head.format();
            if (!f.lossless) CHECK(is_missed(item->item.coded[0].record, f.code_bytes));
            if (f.sink_bytes > 0) CHECK(is_missed(item->item.sinks, f.sink_bytes));
            CHECK(is_missed(item->item.window[0].record, f.window_bytes));
        }
}
#endif
