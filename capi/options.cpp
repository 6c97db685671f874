#include "capi/options.h"

#include <cstring>

#include "capi/boundary.h"
#include "capi/structs.h"
#include "core/cache/parts.h"
#include "core/cache/planner.h"
#include "core/codec/calibration.h"

namespace kvc {
namespace {

constexpr const char* default_codec = "int4";

// Text in a fixed array must end inside it.
Result<std::string> read_text(const std::string& what, const char* text, size_t bytes) {
    const void* end = std::memchr(text, 0, bytes);
    if (!end) return fail(Code::argument, what, " has no final NUL within its ", int64_t(bytes), " bytes");
    return std::string(text);
}

int64_t either(int64_t value, int64_t otherwise) { return value != 0 ? value : otherwise; }

// The codec of every layer that names none of its own.
Result<std::vector<CalibratedLayer>> read_codecs(const kvc_options& options) {
    Result<std::string> codec = read_text("codec", options.codec, sizeof options.codec);
    if (!codec.ok()) return codec.status();
    if (!codec->empty() && codec->front() == calibration_mark) return read_calibration(codec->substr(1), options.layers);
    return std::vector<CalibratedLayer>(size_t(options.layers), {codec->empty() ? default_codec : *codec, ""});
}

Result<LayerConfig> read_layer(const kvc_options& options, const kvc_layer& layer, const CalibratedLayer& codec, int64_t index) {
    LayerConfig config;
    config.kv_heads = either(layer.kv_heads, options.kv_heads);
    config.q_heads = either(layer.q_heads, either(options.q_heads, config.kv_heads));
    config.k_dim = either(layer.k_dim, options.k_dim);
    config.v_dim = either(layer.v_dim, either(options.v_dim, config.k_dim));
    config.sliding_window = either(layer.sliding_window, options.sliding_window);
    if (layer.sliding_window == -1) config.sliding_window = 0;
    config.rope_theta = layer.rope_theta != 0 ? layer.rope_theta : options.rope_theta;
    Result<std::string> own = read_text("codec of layer " + std::to_string(index), layer.codec, sizeof layer.codec);
    if (!own.ok()) return own.status();
    if (!own->empty() && own->front() == calibration_mark) {
        return fail(Code::argument, "codec of layer ", index, ": '", *own,
                    "': a calibration file speaks for all layers, in kvc_options");
    }
    config.codec = own->empty() ? codec.codec : *own;
    config.codec_origin = own->empty() ? codec.origin : "";
    return config;
}

// Elements lie struct_size of the first one apart: that is the caller's idea of the struct, and every element must share it.
Status read_element(const kvc_layer* layers, int64_t index, kvc_layer* out) {
    uint32_t stride = 0, size = 0;
    std::memcpy(&stride, layers, sizeof stride);
    KVC_TRY(check_struct_size("layer 0", stride));
    const char* element = reinterpret_cast<const char*>(layers) + index * int64_t{stride};
    std::memcpy(&size, element, sizeof size);
    const std::string name = "layer " + std::to_string(index);
    if (size != stride) {
        return fail(Code::argument, name, ": struct_size ", int64_t(size), " differs from the ", int64_t(stride), " of layer 0");
    }
    KVC_TRY(read_struct(name, reinterpret_cast<const kvc_layer*>(element), out));
    if (out->reserved != 0) return fail(Code::argument, name, ": reserved ", int64_t(out->reserved), " is not 0");
    return {};
}

// A device's target may say, behind a comma, where its memory comes from; that is taken off.
Result<DeviceHeap> take_heap(std::string* target) {
    const size_t comma = target->find(',');
    if (comma == std::string::npos) return DeviceHeap::direct;
    const std::string heap = target->substr(comma + 1), whole = *target;
    target->resize(comma);
    if (heap == "pool") return DeviceHeap::shared_pool;
    if (heap == "pool=own") return DeviceHeap::own_pool;
    return fail(Code::argument, "target \"", whole, "\": behind the comma stands pool or pool=own");
}

Status check_scalars(const kvc_options& options) {
    if (options.device != KVC_DEVICE_DEFAULT && options.device != KVC_CPU && options.device != KVC_CUDA)
        return fail(Code::argument, "device ", int64_t(options.device), " is not a kvc_device");
    if (options.device_ordinal < 0 || (options.device != KVC_CUDA && options.device_ordinal > 0))
        return fail(Code::argument, "device_ordinal ", options.device_ordinal, " names no device of that kind");
    const auto flag = [](const char* what, int32_t value) -> Status {
        if (value == 0 || value == 1) return {};
        return fail(Code::argument, what, " ", int64_t(value), " is neither 0 nor 1");
    };
    KVC_TRY(flag("arena_growth", options.arena_growth));
    KVC_TRY(flag("saturate", options.saturate));
    KVC_TRY(flag("rope_pairs", options.rope_pairs));
    KVC_TRY(flag("keys", options.keys));
    KVC_TRY(flag("positions", options.positions));
    if ((options.allocate == nullptr) != (options.release == nullptr)) {
        return fail(Code::argument, "allocate and release must both be given, or neither");
    }
    return {};
}

}  // namespace

Result<CacheConfig> read_options(const kvc_options* given, const kvc_layer* layers, int64_t n_layers) {
    if (!given) return fail(Code::argument, "options: NULL");
    kvc_options options = {};
    KVC_TRY(read_struct("options", given, &options));
    KVC_TRY(check_scalars(options));
    if (options.layers < 1 || options.layers > 4096)
        return fail(Code::argument, "layers ", options.layers, " is out of range (1 .. 4096)");
    if (n_layers != 0 && n_layers != options.layers) {
        return fail(Code::argument, "n_layers ", n_layers, " is neither 0 nor layers = ", options.layers);
    }
    if ((n_layers != 0) != (layers != nullptr)) {
        return fail(Code::argument, "layers: ", layers ? "given" : "NULL", " with n_layers ", n_layers, "; give both or neither");
    }
    Result<std::vector<CalibratedLayer>> codecs = read_codecs(options);
    if (!codecs.ok()) return codecs.status();
    CacheConfig config;
    for (int64_t i = 0; i < options.layers; i++) {
        kvc_layer layer = {};
        if (layers) KVC_TRY(read_element(layers, i, &layer));
        Result<LayerConfig> read = read_layer(options, layer, (*codecs)[size_t(i)], i);
        if (!read.ok()) return read.status();
        config.layers.push_back(*read);
    }
    Result<std::string> target = read_text("target", options.target, sizeof options.target);
    if (!target.ok()) return target.status();
    config.target = *target;
    config.rope = {options.keys == KVC_KEYS_BEFORE_ROPE, options.positions == KVC_POSITIONS_IN_CACHE,
                   options.rope_pairs == KVC_ROPE_INTERLEAVED, options.rope_dims};
    Result<std::string> policy = read_text("policy", options.policy, sizeof options.policy);
    if (!policy.ok()) return policy.status();
    config.policy = *policy;
    config.context_tokens = options.context_tokens;
    config.spare_pages = options.spare_pages;
    config.threads = options.threads;
    config.saturate = options.saturate != 0;
    config.arena_bytes = options.arena_bytes;
    config.arena_tokens = options.arena_tokens;
    config.arena_sequences = options.arena_sequences;
    config.arena_block = options.arena_block;
    config.arena_growth = options.arena_growth != 0;
    config.memory = {options.allocate, options.release, options.allocator_context};
    Result<DeviceHeap> heap = take_heap(&config.target);
    if (!heap.ok()) return heap.status();
    if (options.device != KVC_CUDA) {
        if (*heap == DeviceHeap::direct) return config;
        return fail(Code::argument, "target \"", *target, "\": memory pools belong to devices, and this cache is on the CPU");
    }
    if (config.memory.allocate && *heap != DeviceHeap::direct)
        return fail(Code::argument, "target \"", *target, "\" asks for a memory pool, and allocate is given; give one of them");
    Result<std::shared_ptr<Device>> device =
        open_device(options.device_ordinal, config.memory.allocate ? DeviceHeap::callers : *heap, config.memory);
    if (!device.ok()) return device.status();
    config.device = std::move(*device);
    return config;
}

Result<Dtype> read_dtype(const char* what, int32_t value) {
    switch (value) {
    case KVC_DTYPE_DEFAULT:
    case KVC_F32:
        return Dtype::f32;
    case KVC_F16:
        return Dtype::f16;
    case KVC_BF16:
        return Dtype::bf16;
    default:
        return fail(Code::argument, what, " ", int64_t(value), " is not a kvc_dtype");
    }
}

}  // namespace kvc

using namespace kvc;

namespace {

template <class T>
kvc_status init(T* out, int64_t struct_size) {
    return init_struct(out, struct_size) ? KVC_OK : KVC_E_ARGUMENT;
}

}  // namespace

kvc_status kvc_options_init(kvc_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_layer_init(kvc_layer* layer, int64_t struct_size) { return init(layer, struct_size); }
kvc_status kvc_plan_request_init(kvc_plan_request* request, int64_t struct_size) { return init(request, struct_size); }
kvc_status kvc_seq_options_init(kvc_seq_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_step_options_init(kvc_step_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_attend_options_init(kvc_attend_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_step_down_options_init(kvc_step_down_options* options, int64_t struct_size) { return init(options, struct_size); }

kvc_status kvc_evict_options_init(kvc_evict_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_prefix_options_init(kvc_prefix_options* options, int64_t struct_size) { return init(options, struct_size); }
kvc_status kvc_merge_options_init(kvc_merge_options* options, int64_t struct_size) { return init(options, struct_size); }

kvc_status kvc_supports(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, kvc_error* err) {
    return guard(err, [&]() -> Status {
        Result<CacheConfig> config = read_options(options, layers, n_layers);
        if (!config.ok()) return config.status();
        Result<CacheParts> parts = check_parts(*config, ArenaSize::required);
        return parts.ok() ? Status{} : parts.status();
    });
}

kvc_status kvc_plan_compute(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, const kvc_plan_request* request,
                            kvc_plan* out, kvc_error* err) {
    return guard(err, [&]() -> Status {
        KVC_TRY(check_out_struct("plan", out));
        if (!request) return fail(Code::argument, "request: NULL");
        kvc_plan_request asked = {};
        KVC_TRY(read_struct("request", request, &asked));
        if (asked.partial_commit != 0 && asked.partial_commit != 1) {
            return fail(Code::argument, "plan: partial_commit ", int64_t(asked.partial_commit), " is neither 0 nor 1");
        }
        Result<CacheConfig> config = read_options(options, layers, n_layers);
        if (!config.ok()) return config.status();
        Result<CacheParts> parts = check_parts(*config, ArenaSize::optional);
        if (!parts.ok()) return parts.status();
        Result<Plan> plan = plan_memory(parts->layers, parts->policy,
                                        {.tokens = asked.tokens,
                                         .sequences = either(asked.sequences, 1),
                                         .step_tokens = either(asked.step_tokens, 512),
                                         .partial_commit = asked.partial_commit == 1,
                                         .budget_bytes = asked.budget_bytes,
                                         .context_tokens = config->context_tokens});
        if (!plan.ok()) return plan.status();
        write_struct(kvc_plan{0, 0, plan->arena_bytes, plan->slab_bytes, plan->record_bytes, plan->fp16_bytes, plan->max_tokens,
                              plan->max_sequences, plan->codec_bits, plan->effective_bits, plan->checkpoint_bytes},
                     out);
        return {};
    });
}
