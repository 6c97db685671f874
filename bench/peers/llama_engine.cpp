// llama.cpp's side: ggml writes the new tokens' rows into the cache (ggml_set_rows, which quantizes) and computes
// ggml_flash_attn_ext over it, as llama.cpp does in one layer. Two layouts of the same numbers:
//     stored      [tokens][kv_heads][head_dim], as llama.cpp keeps its cache
//     contiguous  [kv_heads][tokens][head_dim], which its attention takes as well, and reads several times as fast
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ggml-cpu.h>
#include <ggml.h>
#include <memory>

#include "bench/peers/engine.h"
#include "bench/peers/exact_attention.h"

namespace bench {
namespace {

constexpr int64_t short_tokens = 512;  // of the attention that only wakes threads up

ggml_type type_of(const std::string& name) {
    for (ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
        if (name == ggml_type_name(type)) return type;
    }
    std::fprintf(stderr, "llama_engine: type '%s' is not one of f16, q8_0, q4_0\n", name.c_str());
    std::exit(2);
}

// One part (K or V) of a cache: where head h of token t lies.
struct Part {
    std::unique_ptr<HugeBlock> block;
    size_t token_bytes = 0, head_bytes = 0, row_bytes = 0;

    char* data() const { return reinterpret_cast<char*>(block->data()); }
    char* row(int64_t token, int64_t head) const { return data() + size_t(token) * token_bytes + size_t(head) * head_bytes; }
};

// The graph of one layer over a cache of `tokens`: the last `queries` of them are written, then all are attended to.
class Attention {
public:
    Attention(const CaseRequest& request, int64_t tokens, int64_t queries, ggml_threadpool* pool, const Numbers& numbers);
    ~Attention() { ggml_free(context_); }
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;

    double run(const Numbers& numbers);  // seconds of the computation
    int64_t bytes() const { return 2 * tokens_ * shape_.kv_heads * int64_t(k_.row_bytes); }
    double check() const;

private:
    Part make_part(const Numbers& numbers, uint64_t seed) const;
    ggml_tensor* view(ggml_tensor* whole, const Part& part);
    std::vector<float> dequantized(const Part& part, int64_t head) const;
    void build(const CaseRequest& request, ggml_threadpool* pool);

    Shape shape_;
    ggml_type type_;
    bool contiguous_;
    int64_t tokens_, queries_;
    Part k_, v_;
    std::vector<float> q_data_, k_data_, v_data_, out_;
    std::vector<int64_t> rows_;
    std::vector<ggml_fp16_t> mask_;
    std::vector<char> meta_;
    std::vector<uint8_t> work_;
    ggml_context* context_ = nullptr;
    ggml_cgraph* graph_ = nullptr;
    ggml_cplan plan_ = {};
    uint64_t seed_ = 100;
};

Attention::Attention(const CaseRequest& request, int64_t tokens, int64_t queries, ggml_threadpool* pool, const Numbers& numbers)
    : shape_(request.shape),
      type_(type_of(request.type)),
      contiguous_(request.layout == "contiguous"),
      tokens_(tokens),
      queries_(queries),
      k_(make_part(numbers, 1)),
      v_(make_part(numbers, 2)) {
    const int64_t dim = shape_.head_dim;
    k_data_.resize(size_t(queries * shape_.kv_heads * dim));
    v_data_.resize(k_data_.size());
    q_data_.resize(size_t(queries * shape_.q_heads * dim));
    out_.resize(q_data_.size());
    for (int64_t i = 0; i < queries; i++)
        rows_.push_back(tokens - queries + i);
    mask_.assign(size_t(tokens * queries), ggml_fp32_to_fp16(0));
    for (int64_t i = 0; i < queries; i++) {
        for (int64_t t = tokens - queries + i + 1; t < tokens; t++)
            mask_[size_t(i * tokens + t)] = ggml_fp32_to_fp16(-INFINITY);
    }
    build(request, pool);
}

Part Attention::make_part(const Numbers& numbers, uint64_t seed) const {
    Part part;
    part.row_bytes = ggml_row_size(type_, shape_.head_dim);
    part.token_bytes = contiguous_ ? part.row_bytes : part.row_bytes * size_t(shape_.kv_heads);
    part.head_bytes = contiguous_ ? part.row_bytes * size_t(tokens_) : part.row_bytes;
    part.block = std::make_unique<HugeBlock>(tokens_ * shape_.kv_heads * int64_t(part.row_bytes));
    std::vector<float> row(size_t(shape_.kv_heads * shape_.head_dim));
    for (int64_t t = 0; t < tokens_; t++) {
        numbers.fill(row.data(), int64_t(row.size()), seed + 4 * uint64_t(t));
        for (int64_t h = 0; h < shape_.kv_heads; h++) {
            ggml_quantize_chunk(type_, row.data() + h * shape_.head_dim, part.row(t, h), 0, 1, shape_.head_dim, nullptr);
        }
    }
    return part;
}

// The part as ggml sees it: [head_dim, tokens, kv_heads], whatever its strides.
ggml_tensor* Attention::view(ggml_tensor* whole, const Part& part) {
    whole->data = part.data();
    ggml_tensor* view = ggml_view_3d(context_, whole, shape_.head_dim, tokens_, shape_.kv_heads, part.token_bytes, part.head_bytes, 0);
    view->data = whole->data;
    return view;
}

void Attention::build(const CaseRequest& request, ggml_threadpool* pool) {
    const int64_t dim = shape_.head_dim;
    meta_.resize(ggml_tensor_overhead() * 32 + ggml_graph_overhead());
    context_ = ggml_init({meta_.size(), meta_.data(), true});
    const auto tensor = [&](ggml_type type, int64_t n0, int64_t n1, int64_t n2, void* data) {
        ggml_tensor* t = ggml_new_tensor_3d(context_, type, n0, n1, n2);
        t->data = data;
        return t;
    };
    const auto swapped = [&](ggml_tensor* t) {  // [dim, heads, tokens] -> [dim, tokens, heads]
        ggml_tensor* permuted = ggml_permute(context_, t, 0, 2, 1, 3);
        permuted->data = t->data;
        return permuted;
    };
    ggml_tensor* k = view(tensor(type_, dim, tokens_, shape_.kv_heads, nullptr), k_);
    ggml_tensor* v = view(tensor(type_, dim, tokens_, shape_.kv_heads, nullptr), v_);
    ggml_tensor* rows = tensor(GGML_TYPE_I64, queries_, 1, 1, rows_.data());
    ggml_tensor* new_k = swapped(tensor(GGML_TYPE_F32, dim, shape_.kv_heads, queries_, k_data_.data()));
    ggml_tensor* new_v = swapped(tensor(GGML_TYPE_F32, dim, shape_.kv_heads, queries_, v_data_.data()));
    ggml_tensor* q = swapped(tensor(GGML_TYPE_F32, dim, shape_.q_heads, queries_, q_data_.data()));
    ggml_tensor* mask = tensor(GGML_TYPE_F16, tokens_, queries_, 1, mask_.data());
    ggml_tensor* set_k = ggml_set_rows(context_, k, new_k, rows);
    ggml_tensor* set_v = ggml_set_rows(context_, v, new_v, rows);
    set_k->data = k->data;
    set_v->data = v->data;
    ggml_tensor* out = ggml_flash_attn_ext(context_, q, k, v, mask, 1.0f / std::sqrt(float(dim)), 0, 0);
    out->data = out_.data();
    graph_ = ggml_new_graph(context_);
    ggml_build_forward_expand(graph_, set_k);  // before the attention, because they come first
    ggml_build_forward_expand(graph_, set_v);
    ggml_build_forward_expand(graph_, out);
    plan_ = ggml_graph_plan(graph_, int(request.threads), pool);
    work_.resize(plan_.work_size + 64);
    plan_.work_data = work_.data();
}

double Attention::run(const Numbers& numbers) {
    numbers.fill(k_data_.data(), int64_t(k_data_.size()), ++seed_);
    numbers.fill(v_data_.data(), int64_t(v_data_.size()), ++seed_);
    numbers.fill(q_data_.data(), int64_t(q_data_.size()), ++seed_);
    const double start = seconds_now();
    if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS) {
        std::fprintf(stderr, "llama_engine: ggml_graph_compute failed\n");
        std::exit(1);
    }
    return seconds_now() - start;
}

std::vector<float> Attention::dequantized(const Part& part, int64_t head) const {
    std::vector<float> out(size_t(tokens_ * shape_.head_dim));
    const ggml_to_float_t to_float = ggml_get_type_traits(type_)->to_float;
    for (int64_t t = 0; t < tokens_; t++)
        to_float(part.row(t, head), out.data() + t * shape_.head_dim, shape_.head_dim);
    return out;
}

double Attention::check() const {
    const int64_t group = shape_.q_heads / shape_.kv_heads, dim = shape_.head_dim;
    RelativeError error;
    for (int64_t head = 0; head < shape_.kv_heads; head++) {
        const std::vector<float> k = dequantized(k_, head), v = dequantized(v_, head);
        for (int64_t i = 0; i < queries_; i++) {
            for (int64_t h = head * group; h < (head + 1) * group; h++) {
                const int64_t at = (i * shape_.q_heads + h) * dim;
                error.add(exact_attention({k.data(), v.data(), tokens_, dim}, q_data_.data() + at, tokens_ - queries_ + i + 1),
                          out_.data() + at);
            }
        }
    }
    return error.value();
}

class LlamaEngine : public Engine {
public:
    ~LlamaEngine() override {
        attention_.reset();
        short_.reset();
        if (pool_) ggml_threadpool_free(pool_);
    }

    int64_t prepare(const CaseRequest& request) override {
        if (request.layout != "stored" && request.layout != "contiguous") {
            std::fprintf(stderr, "llama_engine: layout '%s' is not one of stored, contiguous\n", request.layout.c_str());
            std::exit(2);
        }
        attention_.reset();
        short_.reset();
        if (pool_) ggml_threadpool_free(pool_);
        const ggml_threadpool_params params = ggml_threadpool_params_default(int(request.threads));
        pool_ = ggml_threadpool_new(const_cast<ggml_threadpool_params*>(&params));
        const int64_t queries = request.prefill() ? prompt_tokens : 1;
        const int64_t tokens = request.prefill() ? request.context + prompt_tokens : request.context;
        attention_ = std::make_unique<Attention>(request, tokens, queries, pool_, numbers_);
        short_ = std::make_unique<Attention>(request, short_tokens, 1, pool_, numbers_);
        return attention_->bytes();
    }
    void start_series() override { attention_->run(numbers_); }
    void wake_threads() override { short_->run(numbers_); }
    double run() override { return attention_->run(numbers_); }
    double check() override { return attention_->check(); }

private:
    Numbers numbers_;
    ggml_threadpool* pool_ = nullptr;
    std::unique_ptr<Attention> attention_, short_;
};

}  // namespace
}  // namespace bench

int main() {
    ggml_cpu_init();
    bench::LlamaEngine engine;
    return bench::serve(engine);
}
