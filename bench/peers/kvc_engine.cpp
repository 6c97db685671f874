// kvc's side: a step of one layer, from begin to commit.
#include <cstdlib>
#include <memory>

#include "bench/layer_cache.h"
#include "bench/peers/engine.h"
#include "bench/peers/exact_attention.h"

namespace bench {
namespace {

class KvcEngine : public Engine {
public:
    int64_t prepare(const CaseRequest& request) override {
        request_ = request;
        const char* target = std::getenv("KVC_BENCH_TARGET");
        cache_.reset();  // first, so that two caches never need memory at once
        // In decode the run appends the context's last token.
        const int64_t held = request.prefill() ? request.context : request.context - 1;
        cache_ = std::make_unique<LayerCache>(CacheRequest{request.shape, request.type, target ? target : "", held, request.threads},
                                              numbers_);
        return cache_->bytes();
    }

    void start_series() override {
        if (request_.prefill()) return;
        cache_->branch(false);
        cache_->step(1);  // makes the branch's own copy of the window
    }

    void wake_threads() override {
        if (request_.prefill()) cache_->branch(true);  // each run continues the same context
        cache_->wake_threads();
    }

    double run() override { return cache_->step(request_.prefill() ? prompt_tokens : 1).all(); }

    double check() override {
        const Shape& shape = request_.shape;
        const int64_t queries = request_.prefill() ? prompt_tokens : 1, group = shape.q_heads / shape.kv_heads;
        RelativeError error;
        for (int64_t head = 0; head < shape.kv_heads; head++) {
            const std::vector<float> k = cache_->read(KVC_KEYS, head), v = cache_->read(KVC_VALUES, head);
            const int64_t tokens = int64_t(k.size()) / shape.head_dim;
            const ExactHead exact = {k.data(), v.data(), tokens, shape.head_dim};
            // The last query alone: an earlier one of a prompt saw tokens in 16 bits that have become codes since.
            for (int64_t h = head * group; h < (head + 1) * group; h++) {
                const int64_t at = ((queries - 1) * shape.q_heads + h) * shape.head_dim;
                error.add(exact_attention(exact, cache_->queries().data() + at, tokens), cache_->output().data() + at);
            }
        }
        return error.value();
    }

private:
    Numbers numbers_;
    CaseRequest request_;
    std::unique_ptr<LayerCache> cache_;
};

}  // namespace
}  // namespace bench

int main() {
    bench::KvcEngine engine;
    return bench::serve(engine);
}
