// Times kvc's CUDA kernels, one layer at a time:
//     kvc_gpu_bench [--json OUT] [--quick] [--tiny] [--only TEXT] [--codecs int4,fp16] [--splits 1024,2048]
// bench/gpu/README.md says what is measured. --tiny: shapes that the emulator can do; --only: cases with TEXT in their name.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "bench/gpu/evict_bench.h"
#include "bench/gpu/machine_bench.h"
#include "bench/gpu/step_bench.h"
#include "bench/gpu/step_plan.h"

using namespace kvc_bench;

namespace {

struct Options {
    const char* json = nullptr;
    std::string only;
    bool quick = false, tiny = false;
    std::vector<std::string> codecs{"fp16", "int8", "int4", "int3", "k3v2", "int2"};
    std::vector<int64_t> splits{512, 1024, 2048, 8192};  // beside the library's own
};

[[noreturn]] void refuse(const std::string& what) {
    std::fprintf(stderr, "kvc_gpu_bench: %s\n", what.c_str());
    std::exit(2);
}

std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, ',');) {
        parts.push_back(part);
    }
    return parts;
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string name = argv[i];
        const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : (refuse(name + " wants a value"), ""); };
        if (name == "--quick") {
            options.quick = true;
        } else if (name == "--tiny") {
            options.tiny = true;
            options.splits = {64, 128};
        } else if (name == "--json") {
            options.json = i + 1 < argc ? argv[++i] : nullptr;
        } else if (name == "--only") {
            options.only = value();
        } else if (name == "--codecs") {
            options.codecs = split_list(value());
        } else if (name == "--splits") {
            options.splits.clear();
            for (const std::string& tokens : split_list(value())) {
                options.splits.push_back(std::atoll(tokens.c_str()));
            }
        } else {
            refuse("unknown option " + name);
        }
    }
    for (const int64_t tokens : options.splits) {
        if (tokens < kvc::page_tokens || tokens % kvc::page_tokens != 0) {
            refuse("splits are of whole pages, multiples of 64 tokens");
        }
    }
    return options;
}

struct Case {
    Shape shape;
    bool quick;                       // also with --quick
    std::vector<std::string> codecs;  // empty: all
};

std::vector<Case> cases_of(const Options& options) {
    if (options.tiny) {
        return {{{"tiny", 2, 300, 2, 4, 64}, true, {}},
                {{"tiny-gqa8", 1, 470, 1, 8, 128}, true, {}},
                {{"tiny-prompt", 1, 400, 2, 4, 64, 128}, true, {"fp16", "int4", "int2"}}};
    }
    return {
        {{"batch16-32k-gqa4", 16, 32768, 8, 4, 128}, true, {}},
        {{"batch16-32k-gqa8", 16, 32768, 8, 8, 128}, false, {"fp16", "int4", "int2"}},
        {{"batch16-32k-dim64", 16, 32768, 8, 4, 64}, false, {"fp16", "int4", "int2"}},
        {{"batch1-32k", 1, 32768, 8, 4, 128}, true, {"fp16", "int4", "int2"}},
        {{"batch1-128k", 1, 131072, 8, 4, 128}, true, {"fp16", "int4", "int2"}},
        {{"batch1-1m", 1, 1048576, 8, 4, 128}, true, {"int4", "int2"}},
        {{"prompt2k-32k", 1, 34816, 8, 4, 128, 2048}, true, {"fp16", "int4", "int2"}},
    };
}

std::string number(double x) {
    char text[40];
    std::snprintf(text, sizeof text, "%.7g", x);
    return std::isfinite(x) ? text : "null";
}

std::string shape_fields(const Shape& s, const std::string& codec) {
    std::ostringstream out;
    out << "\"case\": \"" << s.name << "\", \"codec\": \"" << codec << "\", \"batch\": " << s.batch << ", \"context\": " << s.context
        << ", \"new_tokens\": " << (s.new_tokens ? s.new_tokens : 1) << ", \"kv_heads\": " << s.kv_heads << ", \"gqa\": " << s.group
        << ", \"head_dim\": " << s.head_dim;
    return out.str();
}

std::string step_line(const Shape& s, const std::string& codec, const StepResult& r, const Bandwidth& bandwidth) {
    const double rate = double(r.bytes) / r.us * 1e6;
    std::ostringstream out;
    out << "{\"kind\": \"" << (s.new_tokens ? "prompt" : "decode") << "\", " << shape_fields(s, codec) << ", \"us\": " << number(r.us)
        << ", \"us_low\": " << number(r.us_low) << ", \"us_high\": " << number(r.us_high) << ", \"attend_us\": " << number(r.attend_us)
        << ", \"mass_us\": " << number(r.mass_us) << ", \"page_us\": " << number(r.page_us) << ", \"split_tokens\": " << r.split_tokens
        << ", \"bytes\": " << r.bytes << ", \"bytes_per_element\": " << number(r.bytes_per_element)
        << ", \"bytes_per_second\": " << number(rate) << ", \"share_of_read\": " << number(rate / bandwidth.read)
        << ", \"operations_per_second\": " << number(r.products / r.us * 1e6) << ", \"out_error\": " << number(r.errors.out)
        << ", \"lse_error\": " << number(r.errors.lse) << ", \"mass_error\": " << number(r.mass_error)
        << ", \"rows_checked\": " << r.errors.rows << ", \"correct\": " << (r.is_right() ? "true" : "false") << ", \"us_of_split\": {";
    for (size_t i = 0; i < r.us_of_split.size(); i++) {
        out << (i ? ", " : "") << "\"" << r.us_of_split[i].first << "\": " << number(r.us_of_split[i].second);
    }
    out << "}}";
    return out.str();
}

std::string append_line(const Shape& s, const std::string& codec, const AppendResult& r) {
    std::ostringstream out;
    out << "{\"kind\": \"append\", " << shape_fields(s, codec) << ", \"pages\": " << r.pages
        << ", \"quantize_us\": " << number(r.quantize_us) << ", \"store_us\": " << number(r.store_us)
        << ", \"step_us\": " << number(r.step_us) << "}";
    return out.str();
}

std::string evict_line(const Shape& s, const std::string& codec, const EvictResult& r) {
    std::ostringstream out;
    out << "{\"kind\": \"evict\", " << shape_fields(s, codec) << ", \"by\": \"" << r.by << "\", \"layers\": " << r.layers
        << ", \"tokens\": " << r.tokens << ", \"us\": " << number(r.us) << ", \"us_low\": " << number(r.us_low)
        << ", \"us_high\": " << number(r.us_high) << ", \"host_us\": " << number(r.host_us)
        << ", \"halving_us\": " << number(r.halving_us) << ", \"waits\": " << r.waits
        << ", \"correct\": " << (r.correct ? "true" : "false") << "}";
    return out.str();
}

class Report {
public:
    Report(const Options& options, const DeviceInfo& device, const Bandwidth& bandwidth) : options_(options) {
        std::ostringstream out;
        out << "{\"kind\": \"machine\", \"device\": \"" << device.name << "\", \"driver\": \"" << device.driver << "\", \"runtime\": \""
            << device.runtime << "\", \"multiprocessors\": " << device.multiprocessors << ", \"l2_bytes\": " << device.l2_bytes
            << ", \"memory_bytes\": " << device.memory_bytes << ", \"library_split_tokens\": " << library_split_tokens(Shape{})
            << ", \"timed\": " << (device.timed ? "true" : "false") << ", \"read_bytes_per_second\": " << number(bandwidth.read)
            << ", \"copy_bytes_per_second\": " << number(bandwidth.copy) << "}";
        add(out.str());
    }
    // The file is complete after each result: a run that is cut off leaves what it measured.
    void add(const std::string& line) {
        lines_.push_back(line);
        if (!options_.json) {
            return;
        }
        std::FILE* const file = std::fopen(options_.json, "w");
        if (!file) {
            refuse(std::string("cannot write ") + options_.json);
        }
        std::fputs("[\n", file);
        for (size_t i = 0; i < lines_.size(); i++) {
            std::fprintf(file, " %s%s\n", lines_[i].c_str(), i + 1 < lines_.size() ? "," : "");
        }
        std::fputs("]\n", file);
        std::fclose(file);
    }

private:
    const Options& options_;
    std::vector<std::string> lines_;
};

bool is_wanted(const Options& options, const Case& c, const std::string& codec) {
    const bool has = c.codecs.empty() || std::find(c.codecs.begin(), c.codecs.end(), codec) != c.codecs.end();
    return has && (!options.quick || c.quick) && (c.shape.name + " " + codec).find(options.only) != std::string::npos;
}

void print_step(const Shape& shape, const std::string& codec, const StepResult& r, const Bandwidth& bandwidth) {
    const double rate = double(r.bytes) / r.us * 1e6;
    std::printf("%-20s %-5s %9.1f us (%.1f-%.1f; attend %.1f, mass %.1f, with page scores %.1f, split %lld) ", shape.name.c_str(),
                codec.c_str(), r.us, r.us_low, r.us_high, r.attend_us, r.mass_us, r.page_us, static_cast<long long>(r.split_tokens));
    std::printf("%7.1f GB/s %5.1f %% of read, %.3f B/element, %.1f TFLOP/s, errors %.1e %.1e %.1e %s\n", rate * 1e-9,
                100 * rate / bandwidth.read, r.bytes_per_element, r.products / r.us * 1e-6, r.errors.out, r.errors.lse, r.mass_error,
                r.is_right() ? "" : "WRONG");
    std::fflush(stdout);
}

// False if a result was wrong.
bool run_case(const Options& options, const Shape& shape, const std::string& codec, const DeviceInfo& device,
              const Bandwidth& bandwidth, Report* report) {
    const auto pair = kvc::parse_codec(codec);
    if (!pair.ok()) {
        refuse(codec + ": " + pair.status().message);
    }
    const auto format = kvc::make_format(*pair, shape.head_dim, shape.head_dim);
    if (!format.ok()) {
        refuse(codec + ": " + format.status().message);
    }
    if (const char* const reason = no_kernels_for(*format)) {
        std::printf("%-20s %-5s not measured: %s\n", shape.name.c_str(), codec.c_str(), reason);
        report->add("{\"kind\": \"skipped\", " + shape_fields(shape, codec) + ", \"reason\": \"" + reason + "\"}");
        return true;
    }
    StepOptions step{.other_splits = options.splits};
    if (shape.new_tokens) {
        step.other_splits = {options.tiny ? 128 : 16384};
        step.launches = 4;
    }
    if (options.tiny) {
        step.samples = 1;
        step.launches = 1;
        step.rows_checked = 100;
    }
    const DecodeCache cache(*format, shape, device.l2_bytes, options.tiny ? 2 : 1);
    const StepResult r = bench_step(cache, step);
    print_step(shape, codec, r, bandwidth);
    report->add(step_line(shape, codec, r, bandwidth));
    return r.is_right();
}

void run_append(const Options& options, const Case& c, const std::string& codec, const DeviceInfo& device, Report* report) {
    const auto format = kvc::make_format(*kvc::parse_codec(codec), c.shape.head_dim, c.shape.head_dim);
    if (no_kernels_for(*format)) {
        return;
    }
    const AppendResult r = bench_append(*format, c.shape, device.l2_bytes, options.tiny ? 1 : 9);
    std::printf("%-20s %-5s append: quantize %lld pages %.1f us, store a token of each %.1f us, a step %.1f us\n", c.shape.name.c_str(),
                codec.c_str(), static_cast<long long>(r.pages), r.quantize_us, r.store_us, r.step_us);
    report->add(append_line(c.shape, codec, r));
}

// False if a token stayed that should have left, or left that should have stayed.
bool run_evictions(const Options& options, const Case& c, const std::string& codec, Report* report) {
    bool good = true;
    for (const bool by_scores : {false, true}) {
        const EvictResult r = bench_evict(c.shape, codec, by_scores, options.tiny ? 2 : 8, options.tiny ? 2 : 9);
        std::printf(
            "%-20s %-5s evict by %s: %lld tokens a head %.1f us a layer (%.1f-%.1f; call %.1f), half of all %.1f us, waits %lld %s\n",
            c.shape.name.c_str(), codec.c_str(), r.by, static_cast<long long>(r.tokens), r.us, r.us_low, r.us_high, r.host_us,
            r.halving_us, static_cast<long long>(r.waits), r.correct ? "" : "WRONG");
        report->add(evict_line(c.shape, codec, r));
        good &= r.correct;
    }
    return good;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    DeviceInfo device = device_info();
    if (options.tiny) {
        device.l2_bytes = 1 << 16;  // few layers: tiny runs are looked at by slow tools
    }
    const Bandwidth bandwidth = measure_bandwidth(device, options.tiny ? 1 << 20 : int64_t{2} << 30, options.tiny ? 1 : 9);
    std::printf("%s, driver %s, runtime %s: reads %.0f GB/s, copies %.0f GB/s%s\n", device.name.c_str(), device.driver.c_str(),
                device.runtime.c_str(), bandwidth.read * 1e-9, bandwidth.copy * 1e-9,
                device.timed ? "" : " (an emulator: no time below says anything of a GPU)");
    Report report(options, device, bandwidth);
    bool good = true;
    for (const Case& c : cases_of(options)) {
        for (const std::string& codec : options.codecs) {
            if (is_wanted(options, c, codec)) {
                good &= run_case(options, c.shape, codec, device, bandwidth, &report);
            }
        }
    }
    const Case first = cases_of(options).front();
    for (const std::string& codec : options.codecs) {
        if (is_wanted(options, first, codec)) {
            run_append(options, first, codec, device, &report);
        }
    }
    for (const Case& c : cases_of(options)) {
        if ((c.shape.name == "batch1-32k" || c.shape.name == "tiny-gqa8") && is_wanted(options, c, "int4")) {
            good &= run_evictions(options, c, "int4", &report);
        }
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
