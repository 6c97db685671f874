// Chooses, once, among the targets that were built those that this machine can run. Compiled for the baseline.
#include "kernels/cpu/targets.h"

#if defined(KVC_CPU_NEON)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace kvc {
namespace {

struct Tables {
    const KernelTable* table[4];  // of one processor family
    int n = 0;

    void add(const KernelTable* target) { table[n++] = target; }
};

// The instruction sets here are those of the compiler flags in cmake/library.cmake.
#if defined(KVC_CPU_AVX512)
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
#endif

Tables runnable_tables() {
    Tables tables{};
#if defined(KVC_CPU_AVX512VNNI)
    if (has_avx512() && __builtin_cpu_supports("avx512vnni")) {
        tables.add(avx512vnni_table());
    }
#endif
#if defined(KVC_CPU_AVX512)
    if (has_avx512()) {
        tables.add(avx512_table());
    }
#endif
#if defined(KVC_CPU_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        tables.add(avx2_table());
    }
#endif
#if defined(KVC_CPU_NEON)
    const unsigned long features = getauxval(AT_HWCAP);
    if ((features & HWCAP_ASIMDDP) && (features & HWCAP_ASIMDHP)) {
        tables.add(neon_table());
    }
#endif
    tables.add(scalar_table());
    return tables;
}

const Tables& tables() {
    static const Tables all = runnable_tables();
    return all;
}

}  // namespace

int kernel_table_count() { return tables().n; }

const KernelTable* kernel_table(int index) { return index >= 0 && index < tables().n ? tables().table[index] : nullptr; }

}  // namespace kvc
