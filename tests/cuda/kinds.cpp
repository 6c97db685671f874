// Attention over every kind of pages that kernels are instantiated for, beyond what the grid of tests/kernels meets: all pairs of head
// dims, widths that no preset pairs, and numbers as large and as small as fp16 scales allow.
#include <cmath>
#include <doctest/doctest.h>

#include "kernels/cuda/supported.h"
#include "kernels/simt/table.h"
#include "tests/cuda/codecs.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;
namespace cuda = kvc::cuda;

namespace {

// The last tokens of a stream over coded pages, window and sinks, against exact attention.
double error_over(Head& head, int64_t group, float scale, bool prompt_class = false) {
    const kvc::LayerFormat& f = head.format();
    const int64_t n = head.sinks() + 3 * page_tokens + 41;
    const auto item = head.item_of(n, f.lossless ? 0 : 3);
    const Ask ask{.tokens = 2, .group = group, .first_position = n - 2, .prompt_class = prompt_class, .scale = scale};
    const std::vector<float> q = gaussian(size_t(ask.tokens * group * f.k_dim), unsigned(f.k_dim + group));
    return check_answer(head, *item, ask, q, attend(head, *item, ask, q));
}

}  // namespace

TEST_CASE("kinds: every codec at every pair of head dims that there are kernels for is within the derived bound") {
    const kvc::KernelTable& table = *kvc::simt::cuda_table();
    int served = 0;
    for (const char* codec : all_codecs()) {
#define KVC_TEST_PAIR(KD, VD)                                                              \
    if (fits(codec, KD, VD) && !table.unsupported(format_of(codec, KD, VD))) {             \
        INFO(std::string(codec), " ", KD, " ", VD);                                        \
        Head head(table, codec, KD, VD, 4, KD + VD);                                       \
        CHECK(error_over(head, 5, 1.0f / std::sqrt(float(KD))) <= tolerance(table));       \
        CHECK(error_over(head, 5, 1.0f / std::sqrt(float(KD)), true) <= tolerance(table)); \
        ++served;                                                                          \
    }
        KVC_CUDA_HEAD_DIMS(KVC_TEST_PAIR)
#undef KVC_TEST_PAIR
    }
    // All eight pairs, six whose values have whole groups of 32 channels, two of mixed widths or keys in groups of 64: a refusal must not pass for a test.
    CHECK(served == 9 * 8 + 3 * 6 + 7 * 2);
}

TEST_CASE("kinds: large and small keys and values stay within the bound, whatever room their scales leave to weights") {
    struct Case {
        float k_size, v_size;
    };
    // Scales of values beyond 2 leave weights no headroom; 3e4 is the largest that nobody clips. Small ones meet fp16's subnormals.
    const Case cases[] = {{1.0f, 300.0f}, {1.0f, 8000.0f}, {1.0f, 0x1p-9f}, {1000.0f, 1.0f}, {0x1p-9f, 1.0f}, {3000.0f, 3000.0f}};
    for (const char* codec : all_codecs()) {
        for (const Case& c : cases) {
            INFO(std::string(codec), " keys ", c.k_size, " values ", c.v_size);
            Head head(*kvc::simt::cuda_table(), codec, 64, 64, 4, 7, c.k_size, c.v_size);
            CHECK(error_over(head, 3, 0.125f / c.k_size) <= tolerance(head.table()));
        }
    }
}
