#include "bench/gpu/decode_bench.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/base/half.h"

namespace kvc_bench {
namespace {

using kvc::page_tokens;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Everything that the steps of all layers are launched with, for one length of split.
class Steps {
public:
    Steps(const DecodeCache& cache, const std::vector<uint16_t>& q, int64_t split_tokens)
        : cache_(cache),
          splits_(std::max<int64_t>(1, ceil_div(cache.coded_pages() * page_tokens, split_tokens))),
          split_pages_(ceil_div(cache.coded_pages(), splits_)),
          q_(on_device(q)),
          states_(state_floats() * 4),
          out_(rows() * cache.format().v_dim * 2),
          lse_(rows() * 4),
          items_(0),
          rows_(0) {
        std::vector<kvc::AttendItem> items;
        std::vector<kvc::FinishParams> out_rows;
        for (int64_t layer = 0; layer < cache.layers(); layer++) {
            add_items(layer, &items);
        }
        add_rows(&out_rows);
        items_ = on_device(items);
        rows_ = on_device(out_rows);
    }

    DecodeCall call(int64_t layer) const {
        const Shape& s = cache_.shape();
        const int64_t dim = cache_.format().k_dim, n_items = s.batch * s.kv_heads * splits_;
        DecodeCall call{
            {&cache_.format(), cache_.arena(), kvc::Dtype::f16, s.group * s.kv_heads * dim, dim, s.group, scale(), 0.0f, INT64_MAX, 0}};
        call.items = items_.as<kvc::AttendItem>() + layer * n_items;
        call.n_items = int(n_items);
        call.rows = rows_.as<kvc::FinishParams>();
        call.n_rows = rows();
        return call;
    }

    float scale() const { return float(1.0 / std::sqrt(double(cache_.format().k_dim))); }
    int64_t rows() const { return cache_.shape().batch * cache_.shape().kv_heads * cache_.shape().group; }
    const Memory& out() const { return out_; }
    const Memory& lse() const { return lse_; }

private:
    int64_t state_row() const { return cache_.format().v_dim + 2; }
    int64_t state_floats() const { return rows() * splits_ * state_row(); }
    float* states_of(int64_t sequence, int kv_head, int64_t split) const {
        const Shape& s = cache_.shape();
        return states_.as<float>() + ((sequence * s.kv_heads + kv_head) * splits_ + split) * s.group * state_row();
    }

    void add_items(int64_t layer, std::vector<kvc::AttendItem>* items) const {
        const Shape& s = cache_.shape();
        for (int64_t sequence = 0; sequence < s.batch; sequence++) {
            for (int h = 0; h < s.kv_heads; h++) {
                for (int64_t split = 0; split < splits_; split++) {
                    items->push_back(item_of(layer, sequence, h, split));
                }
            }
        }
    }

    // Sinks belong to the first split, the window to the last.
    kvc::AttendItem item_of(int64_t layer, int64_t sequence, int h, int64_t split) const {
        const Shape& s = cache_.shape();
        const DecodeCache::Head head = cache_.head(layer, sequence, h);
        const int64_t sinks = cache_.format().codec.sinks, first = std::min(split * split_pages_, cache_.coded_pages());
        kvc::AttendItem item{};
        item.q = q_.as<uint16_t>() + (sequence * s.kv_heads + h) * s.group * cache_.format().k_dim;
        item.tokens = 1;
        item.first_position = s.context - 1;
        if (split == 0 && sinks > 0) {
            item.sinks = head.sinks;
            item.sink_tokens = sinks;
        }
        item.coded = head.coded + first;
        item.n_coded = std::min(split_pages_, cache_.coded_pages() - first);
        item.coded_position = sinks + first * page_tokens;
        item.window_position = sinks + cache_.coded_pages() * page_tokens;
        if (split + 1 == splits_) {
            item.window = head.window;
            item.n_window = cache_.window_pages();
        }
        item.state = states_of(sequence, h, split);
        item.state_token_stride = s.group;
        return item;
    }

    void add_rows(std::vector<kvc::FinishParams>* rows) const {
        const Shape& s = cache_.shape();
        for (int64_t row = 0; row < this->rows(); row++) {
            const int64_t sequence = row / (s.kv_heads * s.group);
            const int h = int(row / s.group % s.kv_heads), g = int(row % s.group);
            rows->push_back({nullptr, states_of(sequence, h, 0) + g * state_row(), splits_, s.group * state_row(), nullptr,
                             kvc::Dtype::f16, out_.as<uint16_t>() + row * cache_.format().v_dim, lse_.as<float>() + row, nullptr});
        }
    }

    const DecodeCache& cache_;
    int64_t splits_, split_pages_;
    Memory q_, states_, out_, lse_, items_, rows_;
};

// Attention of one row in double precision, over the numbers that the records stand for.
class ExactRow {
public:
    ExactRow(const float* q, int k_dim, int v_dim, double scale)
        : q_(q), k_dim_(k_dim), v_dim_(v_dim), scale_(scale), o_(size_t(v_dim)) {}

    void add(const std::vector<float>& k, const std::vector<float>& v, int64_t tokens) {
        for (int64_t t = 0; t < tokens; t++) {
            double dot = 0;
            for (int i = 0; i < k_dim_; i++) {
                dot += double(q_[i]) * double(k[size_t(t * k_dim_ + i)]);
            }
            const double p = std::exp(dot * scale_);  // Gaussian numbers: logits are of the size of 1
            sum_ += p;
            for (int i = 0; i < v_dim_; i++) {
                o_[size_t(i)] += p * double(v[size_t(t * v_dim_ + i)]);
            }
        }
    }
    double out(int i) const { return o_[size_t(i)] / sum_; }
    double lse() const { return std::log(sum_); }

private:
    const float* q_;
    int k_dim_, v_dim_;
    double scale_, sum_ = 0;
    std::vector<double> o_;
};

ExactRow exact_row(const DecodeCache& cache, int64_t layer, int64_t row, const std::vector<float>& q, double scale) {
    const Shape& s = cache.shape();
    const kvc::LayerFormat& f = cache.format();
    const PatternPages& p = cache.patterns();
    const int64_t sequence = row / (s.kv_heads * s.group);
    const int h = int(row / s.group % s.kv_heads);
    ExactRow exact(q.data() + row * f.k_dim, f.k_dim, f.v_dim, scale);
    exact.add(p.sink_k, p.sink_v, f.codec.sinks);
    for (int64_t page = 0; page < cache.coded_pages(); page++) {
        const auto n = size_t(cache.coded_pattern(layer, sequence, h, page));
        exact.add(p.code_k[n], p.code_v[n], page_tokens);
    }
    for (int64_t page = 0; page < cache.window_pages(); page++) {
        const auto n = size_t(cache.window_pattern(layer, sequence, h, page));
        exact.add(p.row_k[n], p.row_v[n], std::min<int64_t>(page_tokens, cache.window_tokens() - page * page_tokens));
    }
    return exact;
}

void check(const DecodeCache& cache, const Steps& steps, const std::vector<float>& q, int64_t rows, DecodeResult* result) {
    const int v_dim = cache.format().v_dim;
    const int64_t layer = cache.layers() - 1;
    // A pattern that no output has, so that a row that is not written is an error.
    const std::vector<uint16_t> poison(size_t(steps.rows() * v_dim), 0x7e01);
    to_device(steps.out().data(), poison.data(), steps.out().bytes());
    launch_attend(steps.call(layer));
    launch_finish(steps.call(layer));
    std::vector<uint16_t> out(poison.size());
    std::vector<float> lse(size_t(steps.rows()));
    from_device(out.data(), steps.out().data(), steps.out().bytes());
    from_device(lse.data(), steps.lse().data(), steps.lse().bytes());
    for (int64_t i = 0; i < std::min(rows, steps.rows()); i++) {
        const int64_t row = (i * 7919) % steps.rows();
        const ExactRow exact = exact_row(cache, layer, row, q, double(steps.scale()));
        double error = 0, energy = 0;
        for (int d = 0; d < v_dim; d++) {
            const double difference = double(kvc::f32_from_f16(out[size_t(row * v_dim + d)])) - exact.out(d);
            error += difference * difference;
            energy += exact.out(d) * exact.out(d);
        }
        const double relative = std::sqrt(error / energy), lse_error = std::abs(double(lse[size_t(row)]) - exact.lse());
        // Written so that no number is the largest error.
        result->out_error = relative <= result->out_error ? result->out_error : relative;
        result->lse_error = lse_error <= result->lse_error ? result->lse_error : lse_error;
        result->rows_checked++;
    }
}

std::vector<double> time_steps(const DecodeCache& cache, const Steps& steps, const DecodeOptions& options, bool finish) {
    const int64_t turns = ceil_div(options.launches, cache.layers());
    std::vector<double> us = time_rounds(
        [&] {
            for (int64_t i = 0; i < turns * cache.layers(); i++) {
                const DecodeCall call = steps.call(i % cache.layers());
                launch_attend(call);
                if (finish) {
                    launch_finish(call);
                }
            }
        },
        options.samples);
    for (double& number : us) {
        number /= double(turns * cache.layers());
    }
    return us;
}

}  // namespace

DecodeResult bench_decode(const DecodeCache& cache, const DecodeOptions& options) {
    const Shape& s = cache.shape();
    const kvc::LayerFormat& f = cache.format();
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> q;
    std::vector<uint16_t> q_halves;
    for (int64_t i = 0; i < s.batch * s.kv_heads * s.group * f.k_dim; i++) {
        q_halves.push_back(kvc::f16_from_f32(normal(random)));
        q.push_back(kvc::f32_from_f16(q_halves.back()));
    }
    DecodeResult result;
    result.bytes = cache.bytes_read();
    result.bytes_per_element = double(result.bytes) / double(s.batch * s.kv_heads * s.context * (f.k_dim + f.v_dim));
    for (const int64_t split_tokens : options.split_tokens) {
        const Steps steps(cache, q_halves, split_tokens);
        const std::vector<double> us = time_steps(cache, steps, options, true);
        result.us_of_split.emplace_back(split_tokens, median_of(us));
        if (result.us == 0 || median_of(us) < result.us) {
            result.us = median_of(us);
            result.us_low = *std::min_element(us.begin(), us.end());
            result.us_high = *std::max_element(us.begin(), us.end());
            result.split_tokens = split_tokens;
        }
    }
    const Steps best(cache, q_halves, result.split_tokens);
    result.attend_us = median_of(time_steps(cache, best, options, false));
    check(cache, best, q, options.rows_checked, &result);
    return result;
}

double median_of(std::vector<double> numbers) {
    std::sort(numbers.begin(), numbers.end());
    const size_t n = numbers.size();
    return n % 2 ? numbers[n / 2] : (numbers[n / 2 - 1] + numbers[n / 2]) / 2;
}

}  // namespace kvc_bench
