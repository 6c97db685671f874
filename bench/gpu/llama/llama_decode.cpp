// Times llama.cpp's decode attention (ggml_flash_attn_ext) over the shapes of kvc_gpu_bench, and writes JSON of flashinfer_decode.py's form:
//     llama_decode --json OUT [--quick] [--only TEXT] [--cpu]
// Exits with 77 where ggml finds no GPU. --cpu runs tiny shapes on the CPU, which tests the program and is no time of a GPU.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int64_t kv_heads = 8;
constexpr int samples = 9, launches = 20;
constexpr double warm_up_s = 0.05, error_limit = 2e-2;     // ggml rounds queries to 8 bits for coded caches
constexpr int64_t cache_bytes_least = int64_t{256} << 20;  // of all layers: several times an L2 cache
constexpr int64_t different_rows = 4099;                   // of a cache, which repeat

struct Case {
    const char* name;
    int64_t batch, context, group, dim;
    bool quick;
};
// As in kvc_gpu_bench.cpp.
constexpr Case cases[] = {{"batch16-32k-gqa4", 16, 32768, 4, 128, true},
                          {"batch16-32k-gqa8", 16, 32768, 8, 128, false},
                          {"batch16-32k-dim64", 16, 32768, 4, 64, false},
                          {"batch1-32k", 1, 32768, 4, 128, true},
                          {"batch1-128k", 1, 131072, 4, 128, true}};
constexpr Case tiny_cases[] = {{"batch2-512-gqa4", 2, 512, 4, 128, true}, {"batch1-768-dim64", 1, 768, 2, 64, true}};
constexpr ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};

struct Result {
    std::string codec, failure;
    std::vector<double> us;
    double error = 0;
    int64_t bytes = 0;
};

// The rows of K (or V) of a layer, coded; row r of the cache is row r % different_rows of these.
struct Rows {
    ggml_type type;
    int64_t dim;
    size_t row_bytes;
    std::vector<char> coded;

    Rows(ggml_type of, int64_t width, uint64_t seed) : type(of), dim(width), row_bytes(ggml_row_size(of, width)) {
        std::mt19937_64 random(seed);
        std::normal_distribution<float> gaussian;
        std::vector<float> numbers(size_t(different_rows * dim));
        std::generate(numbers.begin(), numbers.end(), [&] { return gaussian(random); });
        coded.resize(row_bytes * different_rows);
        ggml_quantize_chunk(type, numbers.data(), coded.data(), 0, different_rows, dim, nullptr);
    }

    void write_to(ggml_tensor* tensor) const {
        const size_t whole = ggml_nbytes(tensor);
        for (size_t at = 0; at < whole; at += coded.size())
            ggml_backend_tensor_set(tensor, coded.data(), at, std::min(coded.size(), whole - at));
    }

    std::vector<float> row(int64_t r) const {
        std::vector<float> numbers(static_cast<size_t>(dim));
        const char* const at = coded.data() + row_bytes * size_t(r % different_rows);
        if (type == GGML_TYPE_F16) {
            ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(at), numbers.data(), dim);
        } else {
            ggml_get_type_traits(type)->to_float(at, numbers.data(), dim);
        }
        return numbers;
    }
};

// Layers of one case, and the graph that attends to each in turn.
class Attention {
public:
    Attention(ggml_backend_t backend, const Case& of, ggml_type type);
    ~Attention();
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;

    std::string failure() const;  // "" if it can be computed
    bool run() const { return ggml_backend_graph_compute(backend_, graph_) == GGML_STATUS_SUCCESS; }
    int64_t count() const { return count_; }
    int64_t bytes() const { return 2 * case_.batch * case_.context * kv_heads * int64_t(k_.row_bytes); }
    double error() const;

private:
    double error_of(const std::vector<float>& out, int64_t sequence, int64_t head) const;

    ggml_backend_t backend_;
    Case case_;
    Rows k_, v_;
    std::vector<float> q_data_;
    int64_t count_ = 0;  // attentions of the graph
    ggml_context* context_;
    ggml_backend_buffer_t buffer_ = nullptr;
    ggml_cgraph* graph_ = nullptr;
    ggml_tensor *last_ = nullptr, *q_ = nullptr;
};

Attention::Attention(ggml_backend_t backend, const Case& of, ggml_type type)
    : backend_(backend), case_(of), k_(type, of.dim, 1), v_(type, of.dim, 2) {
    const int64_t layers = std::max<int64_t>(1, (cache_bytes_least + bytes() - 1) / bytes());
    count_ = (launches + layers - 1) / layers * layers;
    context_ = ggml_init({ggml_tensor_overhead() * size_t(2 * layers + count_ + 8) + ggml_graph_overhead(), nullptr, true});
    q_ = ggml_new_tensor_4d(context_, GGML_TYPE_F32, of.dim, 1, kv_heads * of.group, of.batch);
    // A mask of zeros, as llama.cpp's own graphs have one: its kernels for groups of query heads ask for it.
    ggml_tensor* const mask = ggml_new_tensor_4d(context_, GGML_TYPE_F16, of.context, 1, 1, of.batch);
    std::vector<ggml_tensor*> k, v;
    for (int64_t i = 0; i < layers; i++) {
        k.push_back(ggml_new_tensor_4d(context_, type, of.dim, of.context, kv_heads, of.batch));
        v.push_back(ggml_new_tensor_4d(context_, type, of.dim, of.context, kv_heads, of.batch));
    }
    graph_ = ggml_new_graph(context_);
    for (int64_t i = 0; i < count_; i++) {
        const auto layer = size_t(i % layers);
        last_ = ggml_flash_attn_ext(context_, q_, k[layer], v[layer], mask, 1.0f / std::sqrt(float(of.dim)), 0, 0);
        ggml_build_forward_expand(graph_, last_);
    }
    buffer_ = ggml_backend_alloc_ctx_tensors(context_, backend);
    if (!buffer_) return;
    std::mt19937_64 random(3);
    std::normal_distribution<float> gaussian;
    q_data_.resize(size_t(ggml_nelements(q_)));
    std::generate(q_data_.begin(), q_data_.end(), [&] { return gaussian(random); });
    ggml_backend_tensor_set(q_, q_data_.data(), 0, ggml_nbytes(q_));
    const std::vector<char> zeros(ggml_nbytes(mask));
    ggml_backend_tensor_set(mask, zeros.data(), 0, zeros.size());
    for (size_t i = 0; i < k.size(); i++) {
        k_.write_to(k[i]);
        v_.write_to(v[i]);
    }
}

Attention::~Attention() {
    if (buffer_) ggml_backend_buffer_free(buffer_);
    ggml_free(context_);
}

std::string Attention::failure() const {
    if (!buffer_) return "the backend refused the memory";
    return ggml_backend_supports_op(backend_, last_) ? "" : "the backend has no kernel for it";
}

double Attention::error() const {
    std::vector<float> out(size_t(ggml_nelements(last_)));
    ggml_backend_tensor_get(last_, out.data(), 0, ggml_nbytes(last_));
    return std::max(error_of(out, 0, 0), error_of(out, case_.batch - 1, kv_heads * case_.group - 1));
}

// Against attention in double precision over the numbers that the codes stand for.
double Attention::error_of(const std::vector<float>& out, int64_t sequence, int64_t head) const {
    const int64_t heads = kv_heads * case_.group, dim = case_.dim;
    const int64_t first = (sequence * kv_heads + head / case_.group) * case_.context;
    const float* const q = q_data_.data() + (sequence * heads + head) * dim;
    std::vector<double> logits, exact(static_cast<size_t>(dim));
    for (int64_t t = 0; t < case_.context; t++) {
        const std::vector<float> key = k_.row(first + t);
        double dot = 0;
        for (int64_t i = 0; i < dim; i++)
            dot += double(q[i]) * key[size_t(i)];
        logits.push_back(dot / std::sqrt(double(dim)));
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (int64_t t = 0; t < case_.context; t++) {
        const double p = std::exp(logits[size_t(t)] - most);
        const std::vector<float> value = v_.row(first + t);
        sum += p;
        for (int64_t i = 0; i < dim; i++)
            exact[size_t(i)] += p * value[size_t(i)];
    }
    double off = 0, size = 0;
    for (int64_t i = 0; i < dim; i++) {
        const double wanted = exact[size_t(i)] / sum;
        off += std::pow(out[size_t((sequence * heads + head) * dim + i)] - wanted, 2);
        size += wanted * wanted;
    }
    return std::sqrt(off / size);
}

double seconds_of_run(const Attention& attention) {
    const auto begin = std::chrono::steady_clock::now();
    if (!attention.run()) return -1;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result measure(ggml_backend_t backend, const Case& of, ggml_type type) {
    Result result;
    result.codec = ggml_type_name(type);
    const Attention attention(backend, of, type);
    result.bytes = attention.bytes();
    result.failure = attention.failure();
    if (!result.failure.empty()) return result;
    double spent = 0;
    for (int turns = 0; turns < 3 || spent < warm_up_s; turns++) {
        const double seconds = seconds_of_run(attention);
        if (seconds < 0) {
            result.failure = "the computation failed";
            return result;
        }
        spent += seconds;
    }
    for (int i = 0; i < samples; i++)
        result.us.push_back(seconds_of_run(attention) * 1e6 / double(attention.count()));
    std::sort(result.us.begin(), result.us.end());
    result.error = attention.error();
    if (!(result.error <= error_limit)) result.failure = "wrong: relative error " + std::to_string(result.error);
    return result;
}

void write(std::FILE* out, bool first, const Case& c, const Result& r) {
    std::fprintf(
        out,
        "%s\n {\"kind\": \"peer\", \"peer\": \"llama.cpp, ggml %s (%s)\", \"case\": \"%s\", \"codec\": \"%s\", \"batch\": %lld, "
        "\"context\": %lld, \"kv_heads\": %lld, \"gqa\": %lld, \"new_tokens\": 1, \"head_dim\": %lld, ",
        first ? "" : ",", ggml_version(), ggml_commit(), c.name, r.codec.c_str(), static_cast<long long>(c.batch),
        static_cast<long long>(c.context), static_cast<long long>(kv_heads), static_cast<long long>(c.group),
        static_cast<long long>(c.dim));
    if (!r.failure.empty()) {
        std::fprintf(out, "\"us\": null, \"variants\": {\"%s\": \"%s\"}}", r.codec.c_str(), r.failure.c_str());
        return;
    }
    const double us = r.us[r.us.size() / 2];
    std::fprintf(out,
                 "\"us\": %.3f, \"us_low\": %.3f, \"us_high\": %.3f, \"variant\": \"flash_attn_ext\", \"timing\": \"wall clock of a "
                 "ggml graph\", "
                 "\"out_error\": %.3e, \"bytes\": %lld, \"bytes_per_second\": %.4e, \"variants\": {}}",
                 us, r.us.front(), r.us.back(), r.error, static_cast<long long>(r.bytes), double(r.bytes) / us * 1e6);
}

void write_all(const std::string& path, const std::vector<std::pair<Case, Result>>& results) {
    std::FILE* const out = std::fopen(path.c_str(), "w");
    if (!out) {
        std::fprintf(stderr, "llama_decode: cannot write %s\n", path.c_str());
        std::exit(2);
    }
    std::fputs("[", out);
    for (size_t i = 0; i < results.size(); i++)
        write(out, i == 0, results[i].first, results[i].second);
    std::fputs("\n]\n", out);
    std::fclose(out);
}

}  // namespace

int main(int argc, char** argv) {
    std::string json, only;
    bool quick = false, cpu = false;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--quick")
            quick = true;
        else if (word == "--cpu")
            cpu = true;
        else if (word == "--json" && i + 1 < argc)
            json = argv[++i];
        else if (word == "--only" && i + 1 < argc)
            only = argv[++i];
        else
            json.clear(), i = argc;
    }
    if (json.empty()) {
        std::fputs("usage: llama_decode --json OUT [--quick] [--only TEXT] [--cpu]\n", stderr);
        return 2;
    }
    ggml_backend_t backend = ggml_backend_init_by_type(cpu ? GGML_BACKEND_DEVICE_TYPE_CPU : GGML_BACKEND_DEVICE_TYPE_GPU, nullptr);
    if (!backend) {
        std::puts("no GPU, or a ggml without CUDA");
        return 77;
    }
    std::vector<std::pair<Case, Result>> results;
    for (const Case& c : cpu ? std::vector<Case>(std::begin(tiny_cases), std::end(tiny_cases))
                             : std::vector<Case>(std::begin(cases), std::end(cases))) {
        for (const ggml_type type : types) {
            const std::string name = std::string(c.name) + " " + ggml_type_name(type);
            if ((quick && !c.quick) || name.find(only) == std::string::npos) continue;
            results.emplace_back(c, measure(backend, c, type));
            const Result& r = results.back().second;
            if (r.failure.empty()) {
                std::printf("%-28s %9.1f us (%.1f-%.1f), error %.1e\n", name.c_str(), r.us[r.us.size() / 2], r.us.front(), r.us.back(),
                            r.error);
            } else {
                std::printf("%-28s not measured: %s\n", name.c_str(), r.failure.c_str());
            }
            std::fflush(stdout);
            write_all(json, results);
        }
    }
    ggml_backend_free(backend);
    return 0;
}
