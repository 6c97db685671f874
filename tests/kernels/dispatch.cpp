// Which tables exist, against what the processor and the operating system say of themselves.
#include <doctest/doctest.h>
#include <initializer_list>
#include <string>

#include "core/backend/kernel_table.h"

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

bool is_offered(const std::string& name) {
    for (int i = 0; i < kvc::kernel_table_count(); ++i) {
        if (name == kvc::kernel_table(i)->name) {
            return true;
        }
    }
    return false;
}

struct Leaf {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf cpuid(unsigned number) {
    Leaf leaf;
    __get_cpuid_count(number, 0, &leaf.a, &leaf.b, &leaf.c, &leaf.d);
    return leaf;
}

bool has(unsigned bits, std::initializer_list<int> wanted) {
    for (const int bit : wanted) {
        if (!(bits >> bit & 1)) {
            return false;
        }
    }
    return true;
}

// Which registers the operating system saves, as a program may ask once the operating system allows it.
unsigned saved_registers() {
    constexpr int osxsave = 27;
    if (!has(cpuid(1).c, {osxsave})) {
        return 0;
    }
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

}  // namespace

TEST_CASE("dispatch: AVX2, AVX-512 and its VNNI are offered where the processor has them and the system saves their registers") {
    const bool fma_and_f16c = has(cpuid(1).c, {12, 29});
    const bool avx2 = has(cpuid(7).b, {5}) && fma_and_f16c;
    const bool avx512 = has(cpuid(7).b, {16, 17, 30, 31}) && fma_and_f16c;  // F, DQ, BW, VL
    const bool vnni = has(cpuid(7).c, {11});
    const bool ymm_saved = has(saved_registers(), {1, 2});                  // SSE, upper halves of YMM
    const bool zmm_saved = ymm_saved && has(saved_registers(), {5, 6, 7});  // masks, upper halves of ZMM, ZMM16 to 31
    MESSAGE("AVX2: processor ", avx2, ", system ", ymm_saved, "; AVX-512: processor ", avx512, ", system ", zmm_saved,
            "; VNNI: ", vnni);
    CHECK(is_offered("avx2") == (avx2 && ymm_saved));
    CHECK(is_offered("avx512") == (avx512 && zmm_saved));
    CHECK(is_offered("avx512vnni") == (avx512 && vnni && zmm_saved));
}
#endif
