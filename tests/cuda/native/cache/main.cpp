// Tests of the C API over caches on a GPU:
//     kvc_cuda_native_scripts_tests [doctest's options]
//     kvc_cuda_native_laws_tests [--long] [doctest's options]
// Exits with 77 where there is no GPU. --long: also the laws that take longest.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstring>
#include <doctest/doctest.h>
#include <kvc.h>
#include <string>

#include "core/backend/device.h"

#if !defined(KVC_LEFT_OUT)
#define KVC_LEFT_OUT ""
#define KVC_LONG ""
#endif

int main(int argc, char** argv) {
    const kvc::Result<int64_t> devices = kvc::device_count();
    if (!devices.ok() || *devices < 1) {
        std::fprintf(stderr, "no GPU: %s\n", devices.ok() ? "none is visible" : devices.status().message.c_str());
        return 77;
    }
    char name[256] = "";
    kvc_error error{};
    error.struct_size = sizeof error;
    if (kvc_device_describe(KVC_CUDA, 0, name, sizeof name, &error) < 0) {
        std::fprintf(stderr, "CUDA device 0: %s\n", error.message);
        return EXIT_FAILURE;
    }
    std::printf("%s\n", name);
    std::string left_out = KVC_LEFT_OUT;
    bool with_long = false;
    for (int i = 1; i < argc; i++) {
        with_long |= std::strcmp(argv[i], "--long") == 0;
    }
    if (!with_long && *KVC_LONG) {
        left_out += std::string(",") + KVC_LONG;
    }
    doctest::Context context;
    if (!left_out.empty()) {
        context.addFilter("test-case-exclude", left_out.c_str());
    }
    context.applyCommandLine(argc, argv);
    return context.run();
}
