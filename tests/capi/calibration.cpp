// codec = "@FILE": a calibration gives every layer its codec, in kvc_supports, kvc_plan_compute and kvc_create alike, or is refused by
// file and line.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unistd.h>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

// A file that goes with its test.
class TemporaryFile {
public:
    explicit TemporaryFile(const std::string& text)
        : path_(std::filesystem::temp_directory_path() / ("kvc-calibration-" + std::to_string(getpid()))) {
        std::FILE* file = std::fopen(path_.c_str(), "wb");
        REQUIRE(file != nullptr);
        REQUIRE(std::fwrite(text.data(), 1, text.size(), file) == text.size());
        std::fclose(file);
    }
    ~TemporaryFile() { std::filesystem::remove(path_); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

void set_codec(kvc_options& options, const std::string& codec) {
    REQUIRE(codec.size() < sizeof options.codec);
    std::strcpy(options.codec, codec.c_str());
}

kvc_plan plan_of(const kvc_options& options, const kvc_layer* layers, int64_t n_layers) {
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = 1000;
    kvc_plan out{};
    out.struct_size = sizeof out;
    kvc_error error = empty_error();
    CHECK_MESSAGE(kvc_plan_compute(&options, layers, n_layers, &request, &out, &error) == KVC_OK, error.message);
    return out;
}

std::vector<kvc_layer> layers_with(const std::vector<std::string>& codecs) {
    std::vector<kvc_layer> layers(codecs.size());
    for (size_t i = 0; i < codecs.size(); i++) {
        kvc_layer_init(&layers[i], sizeof layers[i]);
        std::strcpy(layers[i].codec, codecs[i].c_str());
    }
    return layers;
}

void refused(const kvc_options& options, kvc_status status, const std::string& said) {
    kvc_error error = empty_error(), second = empty_error(), third = empty_error();
    CHECK(kvc_supports(&options, nullptr, 0, &error) == status);
    expect_message(error, said);
    CHECK(kvc_create(&options, nullptr, 0, &second) == nullptr);
    CHECK(std::string(second.message) == error.message);
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = 100;
    kvc_plan out{};
    out.struct_size = sizeof out;
    const kvc_plan before = out;
    CHECK(kvc_plan_compute(&options, nullptr, 0, &request, &out, &third) == status);
    CHECK(std::string(third.message) == error.message);
    CHECK(std::memcmp(&out, &before, sizeof out) == 0);
}

const std::string good = "kvc-calibration 1\n# of a model\nlayer 0 int8\n\nlayer 1 k=int4.ch.g32.m8,v=int2.tok.rot.ls\nend 2\n";

}  // namespace

TEST_CASE("calibration: a cache plans and holds what the same codecs given layer by layer do") {
    for (const std::string& text :
         {good, good + "# and nothing else\n\n", good.substr(0, good.size() - 1),
          std::string("kvc-calibration 1\r\nlayer 0 int8\r\n") + "layer 1 k=int4.ch.g32.m8,v=int2.tok.rot.ls\r\nend 2\r\n"}) {
        CAPTURE(text);
        const TemporaryFile file(text);
        kvc_options calibrated = small_options(), plain = small_options();
        set_codec(calibrated, "@" + file.path());
        const std::vector<kvc_layer> layers = layers_with({"int8", "k=int4.ch.g32.m8,v=int2.tok.rot.ls"});
        const kvc_plan a = plan_of(calibrated, nullptr, 0), b = plan_of(plain, layers.data(), 2);
        CHECK(std::memcmp(&a, &b, sizeof a) == 0);
        CHECK(a.codec_bits != plan_of(plain, nullptr, 0).codec_bits);
        SmallCache cache(calibrated);
        kvc_seq_stats stats{};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_seq_stats_get(cache.cache, cache.seq, &stats, nullptr) == KVC_OK);
        CHECK(stats.codec_bits == a.codec_bits);
    }
}

TEST_CASE("calibration: the file is read when the cache is made, and never again") {
    kvc_options options = small_options();
    std::string path;
    kvc_cache* cache = nullptr;
    {
        const TemporaryFile file(good);
        path = file.path();
        set_codec(options, "@" + path);
        cache = kvc_create(&options, nullptr, 0, nullptr);
        REQUIRE(cache != nullptr);
    }
    CHECK(kvc_seq_create(cache, nullptr, nullptr) != 0);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
    refused(options, KVC_E_IO, "calibration '" + path + "': No such file");
}

TEST_CASE("calibration: a layer's own codec goes before the file's") {
    const TemporaryFile file(good);
    kvc_options calibrated = small_options(), plain = small_options();
    set_codec(calibrated, "@" + file.path());
    const std::vector<kvc_layer> one = layers_with({"", "fp16"}), both = layers_with({"int8", "fp16"});
    CHECK(plan_of(calibrated, one.data(), 2).record_bytes == plan_of(plain, both.data(), 2).record_bytes);
    // A layer names a codec, and no file of its own.
    const std::vector<kvc_layer> nested = layers_with({"", "@" + file.path()});
    kvc_error error = empty_error();
    CHECK(kvc_supports(&plain, nested.data(), 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "codec of layer 1: '@");
}

TEST_CASE("calibration: what is wrong in a file is refused by file and line") {
    struct Case {
        std::string text;
        const char* said;  // behind "FILE:"
        kvc_status status = KVC_E_ARGUMENT;
    };
    const std::string head = "kvc-calibration 1\n";
    const std::vector<Case> cases = {
        {"", "0: the file is empty"},
        {"\n" + good, "1: the first line is not 'kvc-calibration 1'"},
        {"kvc-calibration 2\nlayer 0 int8\nlayer 1 int4\nend 2\n", "1: the first line is not 'kvc-calibration 1'"},
        {"kvc-calibration 10" + good.substr(17), "1: the first line"},
        {head, "1: the file stops after 0 layers, without 'end 2'"},
        {head + "layer 0 int8\nlayer 1 int4\n", "3: the file stops after 2 layers, without 'end 2'"},
        {head + "layer 0 int8\nlayer 1 int4\nen", "4: expected 'layer 2 CODEC' or 'end 2'"},
        {head + "layer 0 int8\nlayer 1 int4\nend 20\n", "4: after 2 layers comes 'end 2'"},
        {head + "layer 0 int8\nlayer 1 int4\nend 02\n", "4: after 2 layers comes 'end 2'"},
        {head + "layer 0 int8\nlayer 1 int4\nend\n", "4: after 2 layers comes 'end 2'"},
        {head + "layer 0 int8\nend 1\n", "3: 1 layers, but the cache has 2"},
        {head + "layer 0 int8\nlayer 1 int4\nlayer 2 int4\nend 3\n", "4: layer 2 of a cache with 2 layers"},
        {head + "layer 1 int8\nlayer 0 int4\nend 2\n", "2: expected 'layer 0 CODEC'"},
        {head + "layer 0 int8\nlayer 0 int4\nend 2\n", "3: expected 'layer 1 CODEC'"},
        {head + "layer 0 int8\nlayer 1\nend 2\n", "3: expected 'layer 1 CODEC'"},
        {head + "layer 0 int8\nlayer 1 \nend 2\n", "3: codec: '' has an empty field"},
        {head + "layer 0 int8\nlayer 1 int9\nend 2\n", "3: codec: unknown field 'int9'"},
        {head + "layer 0 int8\nlayer 1 int4 \nend 2\n", "3: codec: unknown field 'int4 '"},
        {head + "layer 0 int8\nlayer 1 @other\nend 2\n", "3: codec: unknown field '@other'"},
        {head + "layer 0 int8\nlayer 1 int4,window=-1\nend 2\n", "3: codec: window=-1"},
        {head + "layer 0 int8\nlayer 1 k=int4.tok.m8,v=f16\nend 2\n", "3: codec: k: m8 needs ch", KVC_E_UNSUPPORTED},
        {head + "layer 0 int8\nlayer 1 k=int4.tok.g64,v=f16\nend 2\n", "3: layer 1: ", KVC_E_UNSUPPORTED},  // head dim 32
        {good + "layer 2 int4\n", "7: nothing but comments may follow 'end'"},
        {good + good, "7: nothing but comments may follow 'end'"},
    };
    for (const Case& c : cases) {
        CAPTURE(c.text);
        const TemporaryFile file(c.text);
        kvc_options options = small_options();
        set_codec(options, "@" + file.path());
        refused(options, c.status, file.path() + ":" + c.said);
    }
}

TEST_CASE("calibration: every truncation of a file is refused") {
    for (size_t n = 0; n + 1 < good.size(); n++) {  // only the last newline may be missing
        CAPTURE(n);
        const TemporaryFile file(good.substr(0, n));
        kvc_options options = small_options();
        set_codec(options, "@" + file.path());
        kvc_error error = empty_error();
        const kvc_status status = kvc_supports(&options, nullptr, 0, &error);
        CHECK((status == KVC_E_ARGUMENT || status == KVC_E_UNSUPPORTED));  // "g3" is a codec, but no group that there is
        expect_message(error, file.path() + ":");
    }
}

TEST_CASE("calibration: what is no file, and a file of any size, are refused") {
    kvc_options options = small_options();
    set_codec(options, "@");
    refused(options, KVC_E_IO, "calibration '': No such file");
    set_codec(options, "@/");
    refused(options, KVC_E_IO, "calibration '/': it is no file");
    set_codec(options, "@/dev/zero");
    refused(options, KVC_E_IO, "calibration '/dev/zero': it is no file");
    const TemporaryFile large("kvc-calibration 1\n" + std::string(1 << 20, '#'));
    set_codec(options, "@" + large.path());
    refused(options, KVC_E_ARGUMENT, "1048594 bytes, more than the 1048576 of any calibration");
    kvc_error error = empty_error();
    CHECK(kvc_codec_format(("@" + large.path()).c_str(), nullptr, 0, &error) == 0);
    CHECK(error.status == KVC_E_ARGUMENT);
}

TEST_CASE("calibration: 4096 layers are no absurd size") {
    std::string text = "kvc-calibration 1\n";
    for (int i = 0; i < 4096; i++) {
        text += "layer " + std::to_string(i) + " k=int2.ch.g32.m8.clip0.925,v=int2.tok.g32.rot.sym.clip0.925,window=1048576,sinks=64\n";
    }
    const TemporaryFile file(text + "end 4096\n");
    kvc_options options = small_options();
    options.layers = 4096, options.arena_tokens = 0, options.arena_sequences = 0, options.arena_growth = 1;
    set_codec(options, "@" + file.path());
    kvc_error error = empty_error();
    CHECK_MESSAGE(kvc_supports(&options, nullptr, 0, &error) == KVC_OK, error.message);
}
