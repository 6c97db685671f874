// kvc_cuda_launches: what every kernel asks for when it is launched, without a GPU. One line for each architecture and kernel:
//     sm_90 NAME_IN_MACHINE_CODE BYTES_OF_DYNAMIC_SHARED_MEMORY
// The library's launchers do it, over a runtime that only takes notes; kernels/cuda/gates.py holds the numbers against what a block may
// have, and demands that no kernel was left out.
#include <cstdio>
#include <cuda_runtime_api.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/merge_launch.h"
#include "kernels/cuda/recode_launch.h"
#include "kernels/cuda/supported.h"
#include "tests/cuda/native/launches/no_runtime.h"

namespace {

using kvc::LayerFormat;

constexpr int architectures[] = {80, 86, 89, 90, 100, 120};
constexpr int64_t few_rows = 1, many_rows = 1024;  // of an item

void launch_attention(const LayerFormat& format) {
    kvc::AttendParams params{};
    params.format = &format;
    params.group = 1;
    const kvc::Rope rope{};
    for (const int64_t rows : {few_rows, many_rows}) {
        for (const kvc::Rope* turns : {static_cast<const kvc::Rope*>(nullptr), &rope}) {
            params.rope = turns;
            kvc::cuda::launch_attend(params, nullptr, 1, rows, nullptr);
            kvc::cuda::launch_prompt(params, nullptr, 1, rows, nullptr);
            kvc::cuda::launch_mass(params, nullptr, 1, rows, false, nullptr);
            kvc::cuda::launch_mass(params, nullptr, 1, rows, true, nullptr);
        }
    }
}

void launch_others(const LayerFormat& format) {
    kvc::StoreParams store{};
    store.format = &format;
    kvc::FinishCall finish{};
    finish.format = &format;
    finish.q_heads = 1;
    kvc::RecodeParams recode{};
    recode.format = &format;
    for (const kvc::Dtype dtype : {kvc::Dtype::f16, kvc::Dtype::bf16, kvc::Dtype::f32}) {
        store.dtype = finish.out_dtype = dtype;
        kvc::cuda::launch_store(store, nullptr, 1, 1, nullptr);
        kvc::cuda::launch_finish(finish, nullptr, 1, 1, nullptr);
        kvc::cuda::launch_turn_queries({}, dtype, 0, format.k_dim, 0, nullptr, 1, 1, nullptr);
    }
    kvc::cuda::launch_quantize(format, nullptr, 1, nullptr);
    kvc::cuda::launch_recode(recode, nullptr, 1, nullptr);
    for (const kvc::KeyStatistic statistic : {kvc::KeyStatistic::alignment, kvc::KeyStatistic::similarity}) {
        kvc::cuda::launch_measure(format, statistic, nullptr, 1, 1, nullptr);
    }
    kvc::cuda::launch_measure_values(format, nullptr, 1, 1, nullptr);
    kvc::cuda::launch_match(format, nullptr, 1, 1, nullptr);
    kvc::cuda::launch_means(format, true, nullptr, 1, 1, nullptr);
}

void launch_all_of(const char* codec) {
    constexpr struct {
        int k, v;
    } dims[] = {
#define KVC_CUDA_PAIR(KD, VD) {KD, VD},
        KVC_CUDA_HEAD_DIMS(KVC_CUDA_PAIR)
#undef KVC_CUDA_PAIR
    };
    for (const auto [k_dim, v_dim] : dims) {
        const kvc::Result<LayerFormat> format = kvc::make_format(*kvc::parse_codec(codec), k_dim, v_dim);
        if (format.ok() && kvc::cuda::unsupported(*format) == nullptr) {
            launch_attention(*format);
            launch_others(*format);
        }
    }
}

}  // namespace

int main() {
    for (const int architecture : architectures) {
        kvc_test::set_architecture(architecture);
        for (int i = 0; i < kvc::preset_count(); i++) {
            launch_all_of(kvc::preset_name(i));
        }
        kvc::cuda::launch_page_mass(1, nullptr, 1, 1, nullptr);
        for (const char* codec :
             {"k=int8.ch.g32.m8,v=int4.tok.sym", "k=int4.ch.g32.m8,v=int2.tok.ls", "k=int4.ch.g64.m8,v=int4.tok.sym",
              "k=int2.ch.g64.m8,v=int2.tok.ls", "k=int4.ch.g64,v=int4.tok.sym", "k=int2.ch.g64,v=int2.tok.ls"}) {
            launch_all_of(codec);
        }
        for (const auto& [name, bytes] : kvc_test::launched_kernels()) {
            std::printf("sm_%d %s %zu\n", architecture, name.c_str(), bytes);
        }
    }
    return 0;
}
