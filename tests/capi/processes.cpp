// Threads that the host refuses, and caches that a forked child inherits: every call is answered, none waits for ever.
#include <cstdio>
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

constexpr unsigned seconds_to_hang = 60;

// Runs body in a child; what it returns, or -1 if it crashed or hung.
int in_child(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(seconds_to_hang);
        _exit(body());
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("fork: the child can go on with a cache that has threads, end its open step, and destroy it") {
    kvc_options options = small_options();
    options.threads = 2;
    for (bool step_open : {false, true}) {
        CAPTURE(step_open);
        SmallCache small(options);
        kvc_step* step = step_open ? small.begin() : nullptr;
        const int answered = in_child([&] {
            if (!step) step = kvc_step_begin(small.cache, &small.seq, std::vector<int64_t>{1}.data(), 1, nullptr, 0, nullptr, nullptr);
            if (!step) return 1;
            small.append_all(step, 1);
            if (kvc_step_commit(step, nullptr, 0, nullptr) != KVC_OK) return 2;
            return kvc_destroy(small.cache, nullptr) == KVC_OK ? 0 : 3;
        });
        CHECK(answered == 0);
        if (step_open) CHECK(kvc_step_abort(step, nullptr) == KVC_OK);
    }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("threads: a pool of which the host refuses the last threads is KVC_E_NO_MEMORY, and the others end") {
    const int answered = in_child([] {
        // Room for some stacks of 8 MiB, not for 1,000 of them.
        const rlimit limit = {rlim_t{400} << 20, rlim_t{400} << 20};
        if (setrlimit(RLIMIT_AS, &limit) != 0) return 1;
        kvc_options options = small_options();
        options.threads = 1000;
        kvc_error error = empty_error();
        kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
        if (cache) return kvc_destroy(cache, nullptr) == KVC_OK ? 0 : 2;  // emulators have no such limit
        return status_of(&error) == KVC_E_NO_MEMORY ? 0 : 3;
    });
    CHECK(answered == 0);
}
#endif
