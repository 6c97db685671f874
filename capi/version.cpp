// Version, build, ABI description, status names, discovery.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>

#include "capi/boundary.h"
#include "capi/text.h"
#include "core/backend/device.h"
#include "core/backend/kernel_table.h"
#include "core/codec/ladder.h"
#include "core/policy/spec.h"

namespace kvc {
namespace {

static_assert(int32_t(Code::internal) == KVC_E_INTERNAL && int32_t(Code::forked) == KVC_E_FORKED);
static_assert(int32_t(Code::corrupt) == KVC_E_CORRUPT && int32_t(Code::io) == KVC_E_IO);
static_assert(int32_t(Code::device) == KVC_E_DEVICE && int32_t(Code::capture) == KVC_E_CAPTURE && int32_t(Code::again) == KVC_E_AGAIN);
static_assert(int32_t(Code::nonfinite) == KVC_E_NONFINITE && int32_t(Code::busy) == KVC_E_BUSY);
static_assert(int32_t(Dtype::f16) == KVC_F16 && int32_t(Dtype::f32) == KVC_F32 && int32_t(Dtype::bf16) == KVC_BF16);

std::string describe_abi() {
    std::string text;
    const auto field = [&](const char* name, size_t offset, size_t bytes, const char* type) {
        text += std::string(" ; field ") + name + " " + std::to_string(offset) + " " + std::to_string(bytes) + " " + type;
    };
    const auto value = [&](const char* type, const char* name, int number) {
        text += std::string("enum ") + type + " " + name + " " + std::to_string(number) + "\n";
    };
#define KVC_STRUCT(name) text += std::string("struct " #name " ") + std::to_string(sizeof(name));
#define KVC_FIELD(name, member, type) field(#member, offsetof(name, member), sizeof(name::member), #type);
#define KVC_END text += "\n";
#define KVC_ENUM(name, number) value(#name, #number, number);
#include "capi/abi.def"
#undef KVC_STRUCT
#undef KVC_FIELD
#undef KVC_END
#undef KVC_ENUM
    return text;
}

constexpr const char* host_build = "kvc " KVC_VERSION
                                   ", "
#if defined(__clang__)
                                   "clang " __clang_version__
#else
                                   "gcc " __VERSION__
#endif
#if defined(KVC_CPU_AVX512VNNI)
                                   ", avx512vnni"
#endif
#if defined(KVC_CPU_AVX512)
                                   ", avx512"
#endif
#if defined(KVC_CPU_AVX2)
                                   ", avx2"
#endif
#if defined(KVC_CPU_NEON)
                                   ", neon"
#endif
                                   ", scalar";

}  // namespace
}  // namespace kvc

using namespace kvc;

const char* kvc_version(void) { return KVC_VERSION; }

int64_t kvc_abi_version(void) { return KVC_ABI_VERSION; }

const char* kvc_build_info(void) {
    // Composed once, without memory that the host could refuse.
    struct Line {
        Line() { std::snprintf(text, sizeof text, "%s, %s", host_build, device_build()); }
        char text[512];
    };
    static const Line line;
    return line.text;
}

int64_t kvc_abi_describe(char* out, int64_t out_bytes) {
    int64_t needed = 0;
    guard(nullptr, [&]() -> Status {
        needed = copy_text(describe_abi(), out, out_bytes);
        return {};
    });
    return needed;
}

const char* kvc_status_name(int32_t status) {
    switch (status) {
#define KVC_STRUCT(name)
#define KVC_FIELD(name, member, type)
#define KVC_END
#define KVC_ENUM(name, number) KVC_STATUS_CASE_##name(number)
#define KVC_STATUS_CASE_kvc_status(number) \
    case number:                           \
        return #number;
#define KVC_STATUS_CASE_kvc_dtype(number)
#define KVC_STATUS_CASE_kvc_device(number)
#define KVC_STATUS_CASE_kvc_part(number)
#define KVC_STATUS_CASE_kvc_cut(number)
#define KVC_STATUS_CASE_kvc_rope_pairs(number)
#define KVC_STATUS_CASE_kvc_keys(number)
#define KVC_STATUS_CASE_kvc_positions(number)
#define KVC_STATUS_CASE_kvc_buffer_kind(number)
#include "capi/abi.def"
    default:
        return "unknown";
    }
}

int64_t kvc_preset_count(void) { return preset_count(); }

const char* kvc_preset_name(int64_t index) { return index < 0 || index >= preset_count() ? nullptr : preset_name(int(index)); }

int64_t kvc_codec_format(const char* codec, char* out, int64_t out_bytes, kvc_error* err) {
    return guard_value<int64_t>(err, 0, [&]() -> Result<int64_t> {
        if (!codec) return fail(Code::argument, "codec: NULL");
        Result<Ladder> ladder = parse_ladder(codec);
        if (!ladder.ok()) return ladder.status();
        return copy_text(format_ladder(*ladder), out, out_bytes);
    });
}

int64_t kvc_policy_count(void) { return policy_count() + policy_preset_count(); }

const char* kvc_policy_name(int64_t index) {
    if (index < 0 || index >= kvc_policy_count()) return nullptr;
    return index < policy_count() ? policy_at(int(index)).name : policy_preset_at(int(index) - policy_count()).name;
}

int64_t kvc_policy_format(const char* policy, char* out, int64_t out_bytes, kvc_error* err) {
    return guard_value<int64_t>(err, 0, [&]() -> Result<int64_t> {
        if (!policy) return fail(Code::argument, "policy: NULL");
        Result<PolicySpec> spec = parse_policy(policy);
        if (!spec.ok()) return spec.status();
        return copy_text(format_policy(*spec), out, out_bytes);
    });
}

int64_t kvc_target_count(void) { return kernel_table_count(); }

const char* kvc_target_name(int64_t index) {
    return index < 0 || index >= kernel_table_count() ? nullptr : kernel_table(int(index))->name;
}
