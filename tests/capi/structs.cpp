// Structs grow: a shorter one is an older caller, a longer one must be zero where this library does not know it.
#include <cstring>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

// A struct with room behind it, as a later version of the header would have.
template <typename T>
struct Longer {
    T known;
    unsigned char unknown[16];
};

template <typename T>
Longer<T> longer(const T& from) {
    Longer<T> made;
    std::memset(&made, 0, sizeof made);
    made.known = from;
    made.known.struct_size = sizeof made;
    return made;
}

// call(struct) -> status. Sizes below the size field itself and unset ones are refused, unknown bytes must be zero.
template <typename T, typename CallIt>
void check_input(const T& valid, CallIt call) {
    CHECK(call(&valid) == KVC_OK);
    T unset = valid;
    for (uint32_t size : {0u, 1u, 3u, 1u << 30}) {
        CAPTURE(size);
        unset.struct_size = size;
        CHECK(call(&unset) == KVC_E_ARGUMENT);
    }
    Longer<T> later = longer(valid);
    CHECK(call(&later.known) == KVC_OK);
    later.unknown[15] = 1;
    CHECK(call(&later.known) == KVC_E_ARGUMENT);
}

template <typename T, typename CallIt>
void check_output(CallIt call) {
    T out;
    std::memset(&out, 0x5a, sizeof out);
    out.struct_size = 0;
    CHECK(call(&out) == KVC_E_ARGUMENT);
    std::memset(&out, 0x5a, sizeof out);
    out.struct_size = 8;  // an old caller: nothing behind its struct may be written
    CHECK(call(&out) == KVC_OK);
    for (size_t i = 8; i < sizeof out; ++i)
        CHECK(reinterpret_cast<unsigned char*>(&out)[i] == 0x5a);
    CHECK(out.struct_size == 8);
    CHECK(call(static_cast<T*>(nullptr)) == KVC_E_ARGUMENT);
}

}  // namespace

TEST_CASE("structs: init functions fill the size, leave nothing unset, and refuse sizes that hold no struct") {
    kvc_options options;
    std::memset(&options, 0x77, sizeof options);
    CHECK(kvc_options_init(&options, sizeof options) == KVC_OK);
    CHECK(options.struct_size == sizeof options);
    CHECK(options.layers == 0);
    CHECK(options.codec[0] == 0);
    CHECK((options.allocate == nullptr));
    CHECK(kvc_options_init(&options, 0) == KVC_E_ARGUMENT);
    CHECK(kvc_options_init(&options, -8) == KVC_E_ARGUMENT);
    CHECK(kvc_options_init(nullptr, sizeof options) == KVC_E_ARGUMENT);
    kvc_layer layer;
    kvc_plan_request request;
    kvc_seq_options seq_options;
    kvc_step_options step_options;
    kvc_attend_options attend_options;
    kvc_evict_options evict_options;
    kvc_prefix_options prefix_options;
    CHECK(kvc_prefix_options_init(&prefix_options, sizeof prefix_options) == KVC_OK);
    CHECK(kvc_layer_init(&layer, sizeof layer) == KVC_OK);
    CHECK(kvc_plan_request_init(&request, sizeof request) == KVC_OK);
    CHECK(kvc_seq_options_init(&seq_options, sizeof seq_options) == KVC_OK);
    CHECK(kvc_step_options_init(&step_options, sizeof step_options) == KVC_OK);
    CHECK(kvc_attend_options_init(&attend_options, sizeof attend_options) == KVC_OK);
    CHECK(kvc_evict_options_init(&evict_options, sizeof evict_options) == KVC_OK);
    CHECK(evict_options.struct_size == sizeof evict_options);
    struct {
        kvc_seq_options options;
        unsigned char behind[8];
    } guarded;
    std::memset(&guarded, 0x77, sizeof guarded);
    CHECK(kvc_seq_options_init(&guarded.options, sizeof guarded.options) == KVC_OK);
    CHECK(guarded.behind[0] == 0x77);
}

TEST_CASE("structs: step-down takes options and gives reports of any age") {
    kvc_options options = small_options();
    std::strcpy(options.codec, "int8/int4");
    kvc_cache* cache = kvc_create(&options, nullptr, 0, nullptr);
    REQUIRE((cache != nullptr));
    const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
    kvc_step_down_options step_down_options;
    CHECK(kvc_step_down_options_init(&step_down_options, sizeof step_down_options) == KVC_OK);
    CHECK(kvc_step_down_options_init(nullptr, sizeof step_down_options) == KVC_E_ARGUMENT);
    check_input(step_down_options, [&](const kvc_step_down_options* o) { return kvc_step_down(cache, seq, o, nullptr, nullptr); });
    kvc_step_down_report report;
    std::memset(&report, 0x5a, sizeof report);
    report.struct_size = 0;
    CHECK(kvc_step_down(cache, seq, nullptr, &report, nullptr) == KVC_E_ARGUMENT);
    report.struct_size = 8;
    CHECK(kvc_step_down(cache, seq, nullptr, &report, nullptr) == KVC_OK);
    CHECK(reinterpret_cast<unsigned char*>(&report)[8] == 0x5a);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

TEST_CASE("structs: inputs of another size") {
    SmallCache small;
    check_input(small_options(), [](const kvc_options* o) { return kvc_supports(o, nullptr, 0, nullptr); });
    kvc_seq_options seq_options;
    kvc_seq_options_init(&seq_options, sizeof seq_options);
    check_input(seq_options, [&](const kvc_seq_options* o) {
        kvc_error error = empty_error();
        return kvc_seq_create(small.cache, o, &error) ? KVC_OK : status_of(&error);
    });
    kvc_step_options step_options;
    kvc_step_options_init(&step_options, sizeof step_options);
    check_input(step_options, [&](const kvc_step_options* o) {
        kvc_error error = empty_error();
        const int64_t count = 1;
        kvc_step* step = kvc_step_begin(small.cache, &small.seq, &count, 1, nullptr, 0, o, &error);
        if (step) kvc_step_abort(step, nullptr);
        return step ? KVC_OK : status_of(&error);
    });
    kvc_attend_options attend_options;
    kvc_attend_options_init(&attend_options, sizeof attend_options);
    kvc_step* step = small.begin();
    small.append_all(step, 1);
    check_input(attend_options, [&](const kvc_attend_options* o) {
        return kvc_attend(step, 0, small.q.data(), 512, small.out.data(), 512, nullptr, 0, o, nullptr);
    });
    CHECK(kvc_step_abort(step, nullptr) == KVC_OK);
    kvc_evict_options evict_options;
    kvc_evict_options_init(&evict_options, sizeof evict_options);
    evict_options.budget = 5;
    check_input(evict_options,
                [&](const kvc_evict_options* o) { return kvc_evict(small.cache, small.seq, nullptr, 0, o, nullptr, nullptr); });
    kvc_prefix_options prefix_options;
    kvc_prefix_options_init(&prefix_options, sizeof prefix_options);
    const int64_t tokens[5] = {1, 2, 3, 4, 5};
    check_input(prefix_options, [&](const kvc_prefix_options* o) {
        return kvc_prefix_publish(small.cache, small.seq, tokens, 5, nullptr, 0, o, nullptr);
    });
    check_input(seq_options, [&](const kvc_seq_options* o) {
        kvc_error error = empty_error();
        kvc_prefix_hit hit{};
        hit.struct_size = sizeof hit;
        return kvc_prefix_lookup(small.cache, tokens, 5, nullptr, 0, o, &hit, &error) ? KVC_OK : status_of(&error);
    });
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = 100;
    check_input(request, [](const kvc_plan_request* r) {
        const kvc_options options = small_options();
        kvc_plan plan{};
        plan.struct_size = sizeof plan;
        return kvc_plan_compute(&options, nullptr, 0, r, &plan, nullptr);
    });
}

TEST_CASE("structs: outputs of another size") {
    SmallCache small;
    check_output<kvc_stats>([&](kvc_stats* out) { return kvc_stats_get(small.cache, out, nullptr); });
    check_output<kvc_seq_stats>([&](kvc_seq_stats* out) { return kvc_seq_stats_get(small.cache, small.seq, out, nullptr); });
    check_output<kvc_plan>([](kvc_plan* out) {
        const kvc_options options = small_options();
        kvc_plan_request request;
        kvc_plan_request_init(&request, sizeof request);
        request.tokens = 10;
        return kvc_plan_compute(&options, nullptr, 0, &request, out, nullptr);
    });
}

TEST_CASE("structs: layers of a caller with a longer struct lie as far apart as it says") {
    kvc_layer plain;
    kvc_layer_init(&plain, sizeof plain);
    std::vector<Longer<kvc_layer>> layers(2, longer(plain));
    std::strcpy(layers[1].known.codec, "fp16");
    layers[1].known.v_dim = 64;
    kvc_options options = small_options();
    CHECK(kvc_supports(&options, &layers[0].known, 2, nullptr) == KVC_OK);
    layers[1].known.v_dim = 63;
    kvc_error error = empty_error();
    CHECK(kvc_supports(&options, &layers[0].known, 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "v_dim 63");
}

TEST_CASE("structs: an array of layers in which one element says another size is refused by its index, and not read past") {
    kvc_layer plain;
    kvc_layer_init(&plain, sizeof plain);
    kvc_options options = small_options();
    for (const size_t wrong : {size_t{0}, size_t{1}})
        for (const uint32_t size : {uint32_t{8}, uint32_t(sizeof plain + 16), 0u, 70000u}) {
            CAPTURE(wrong);
            CAPTURE(size);
            std::vector<kvc_layer> layers(2, plain);
            layers[wrong].struct_size = size;
            kvc_error error = empty_error();
            // A first element with a size of its own moves the others: what lies there says another size, or none.
            if (wrong == 0 && size >= 8 && size < 70000) continue;
            CHECK(kvc_supports(&options, layers.data(), 2, &error) == KVC_E_ARGUMENT);
            expect_message(error, "layer " + std::to_string(wrong) + ": struct_size " + std::to_string(size));
        }
    // Elements of an old and short struct, which need not be aligned.
    std::vector<unsigned char> packed(2 * 10, 0);
    const uint32_t size = 10;
    std::memcpy(packed.data(), &size, 4), std::memcpy(packed.data() + 10, &size, 4);
    CHECK(kvc_supports(&options, reinterpret_cast<kvc_layer*>(packed.data()), 2, nullptr) == KVC_OK);
}

TEST_CASE("describe: the size is told first, a short buffer is cut and terminated, and every struct is there") {
    const int64_t bytes = kvc_abi_describe(nullptr, 0);
    REQUIRE(bytes > 1000);
    std::string text(static_cast<size_t>(bytes), 'x');
    CHECK(kvc_abi_describe(text.data(), bytes) == bytes);
    CHECK(text.back() == 0);
    CHECK(text.find('\0') == static_cast<size_t>(bytes - 1));
    char little[8] = "zzzzzzz";
    CHECK(kvc_abi_describe(little, 4) == bytes);
    CHECK(std::string(little, 3) == text.substr(0, 3));
    CHECK(little[3] == 0);
    CHECK(little[4] == 'z');
    CHECK(text.find("struct kvc_error " + std::to_string(sizeof(kvc_error))) != std::string::npos);
    CHECK(text.find("struct kvc_options " + std::to_string(sizeof(kvc_options))) != std::string::npos);
    CHECK(text.find("enum kvc_status KVC_E_INTERNAL 10") != std::string::npos);
}

TEST_CASE("names: every status has one, and so has a number that is none") {
    CHECK(std::string(kvc_status_name(KVC_OK)) == "KVC_OK");
    CHECK(std::string(kvc_status_name(KVC_E_INTERNAL)) == "KVC_E_INTERNAL");
    for (int32_t wrong : {-1, 16, 1000, INT32_MAX, INT32_MIN})
        CHECK(std::string(kvc_status_name(wrong)) == "unknown");
    CHECK(kvc_abi_version() == KVC_ABI_VERSION);
    CHECK(std::string(kvc_version()).find('.') != std::string::npos);
    const std::string build = kvc_build_info();
    CHECK(build.find(std::string("kvc ") + kvc_version()) == 0);
    CHECK(build.find(", scalar, ") != std::string::npos);
    CHECK((build.ends_with(", no cuda") || build.find(", cuda ") != std::string::npos));
    CHECK(kvc_build_info() == kvc_build_info());
    CHECK(kvc_preset_name(-1) == nullptr);
    CHECK(kvc_preset_name(kvc_preset_count()) == nullptr);
    CHECK(kvc_target_name(-1) == nullptr);
    CHECK(kvc_target_name(kvc_target_count()) == nullptr);
    CHECK(std::string(kvc_target_name(kvc_target_count() - 1)) == "scalar");
}

TEST_CASE("policy strings: canonical forms round-trip, nonsense is refused with its word") {
    char text[256], again[256];
    for (int64_t i = 0; i < kvc_policy_count(); ++i) {
        const std::string given = std::string(kvc_policy_name(i)) + ":20%,every=never";
        const int64_t bytes = kvc_policy_format(given.c_str(), text, sizeof text, nullptr);
        REQUIRE(bytes == static_cast<int64_t>(std::strlen(text)) + 1);
        CHECK(kvc_policy_format(text, again, sizeof again, nullptr) == bytes);
        CHECK(std::string(text) == again);
    }
    CHECK(kvc_policy_name(-1) == nullptr);
    CHECK(kvc_policy_name(kvc_policy_count()) == nullptr);
    for (const char* wrong : {"h2o", "h2o:0", "forget:20%", "h2o:20%,sinks=65"}) {
        CAPTURE(wrong);
        kvc_error error = empty_error();
        CHECK(kvc_policy_format(wrong, text, sizeof text, &error) == 0);
        CHECK(error.status == KVC_E_ARGUMENT);
        expect_message(error, "policy");
    }
    kvc_error error = empty_error();
    CHECK(kvc_policy_format(nullptr, text, sizeof text, &error) == 0);
    CHECK(kvc_policy_format("h2o:20%", nullptr, 0, nullptr) > 20);
}

TEST_CASE("codec strings: presets and canonical strings round-trip, nonsense is refused with its word") {
    char text[128], again[128];
    for (int64_t i = 0; i < kvc_preset_count(); ++i) {
        const int64_t bytes = kvc_codec_format(kvc_preset_name(i), text, sizeof text, nullptr);
        REQUIRE(bytes == static_cast<int64_t>(std::strlen(text)) + 1);
        CHECK(kvc_codec_format(text, again, sizeof again, nullptr) == bytes);
        CHECK(std::string(text) == again);
    }
    for (const char* wrong :
         {"int9", "k=int4", "k=int4.ch.g32.m9,v=int4.tok", "int4,window=-1", "int4,window=x", "int4,", "k=int4.ch,v=int4.tok,w=3",
          "int4,sinks=1,sinks=2", "k=f16.rot,v=f16", "k=bf16,v=f16", "int4,sinks=65", "k=int4.ch.tok,v=f16"}) {
        CAPTURE(wrong);
        kvc_error error = empty_error();
        CHECK(kvc_codec_format(wrong, text, sizeof text, &error) == 0);
        CHECK((error.status == KVC_E_ARGUMENT || error.status == KVC_E_UNSUPPORTED));
        expect_message(error, "codec");
    }
    kvc_error error = empty_error();
    CHECK(kvc_codec_format(nullptr, text, sizeof text, &error) == 0);
    CHECK(kvc_codec_format("int4", nullptr, 0, nullptr) > 10);
}
