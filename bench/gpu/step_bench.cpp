#include "bench/gpu/step_bench.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "bench/gpu/step_plan.h"
#include "core/base/half.h"

namespace kvc_bench {
namespace {

struct Queries {
    std::vector<uint16_t> halves;
    std::vector<float> numbers;
};

Queries random_queries(int64_t n) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    Queries q;
    for (int64_t i = 0; i < n; i++) {
        q.halves.push_back(kvc::f16_from_f32(normal(random)));
        q.numbers.push_back(kvc::f32_from_f16(q.halves.back()));
    }
    return q;
}

// Rows of a step's output, spread over the last layer, and what they are in double precision.
std::vector<std::pair<int64_t, ExactRow>> exact_rows(const DecodeCache& cache, const StepPlan& plan, const Queries& q, int64_t rows) {
    const Shape& s = cache.shape();
    std::vector<std::pair<int64_t, ExactRow>> exact;
    for (int64_t i = 0; i < std::min(rows, plan.rows()); i++) {
        const int64_t row = (i * 7919) % plan.rows(), list = row / s.group, token = list / s.kv_heads % plan.tokens();
        const RowPlace place{cache.layers() - 1, list / s.kv_heads / plan.tokens(), int(list % s.kv_heads),
                             cache.window_tokens() - (plan.tokens() - 1 - token)};
        exact.emplace_back(row, exact_row(cache, place, q.numbers.data() + row * cache.format().k_dim, double(plan.scale())));
    }
    return exact;
}

void check_rows(const DecodeCache& cache, const StepPlan& plan, const std::vector<std::pair<int64_t, ExactRow>>& exact_rows,
                StepResult* result) {
    const int v_dim = cache.format().v_dim;
    const int64_t layer = cache.layers() - 1;
    // A pattern that no output has, so that a row that is not written is an error.
    const std::vector<uint16_t> poison(size_t(plan.rows() * v_dim), 0x7e01);
    to_device(plan.out().data(), poison.data(), plan.out().bytes());
    launch_attend(plan.call(layer));
    launch_finish(plan.call(layer));
    std::vector<uint16_t> out(poison.size());
    std::vector<float> lse(size_t(plan.rows()));
    from_device(out.data(), plan.out().data(), plan.out().bytes());
    from_device(lse.data(), plan.lse().data(), plan.lse().bytes());
    for (const auto& [row, exact] : exact_rows) {
        compare(exact, out.data() + row * v_dim, lse[size_t(row)], &result->errors);
    }
}

// All probabilities of a head's queries together are as many as there are queries, in units of 2^-30.
void check_mass(const DecodeCache& cache, const StepPlan& plan, StepResult* result) {
    const std::vector<int64_t> zeros(size_t(plan.counter_bytes() / 8));
    to_device(plan.counters(), zeros.data(), plan.counter_bytes());
    launch_attend(plan.call(0));
    launch_finish(plan.call(0));
    launch_mass(plan.call(0), plan.mass_items(0));
    std::vector<int64_t> counters(size_t(plan.counters_of_head()));
    for (int64_t head = 0; head < std::min<int64_t>(3, cache.shape().batch * cache.shape().kv_heads); head++) {
        from_device(counters.data(), plan.counters() + head * plan.counters_of_head(), plan.counters_of_head() * 8);
        double sum = 0;
        for (const int64_t counter : counters) {
            sum += double(counter);
        }
        result->mass_error = std::max(result->mass_error, std::abs(sum / double(1 << 30) / cache.shape().group - 1));
    }
}

// A decode step of which each page's share is known afterwards, as mass=page wants it in every step.
void launch_with_page_scores(const StepPlan& plan, int64_t layer, int64_t group) {
    const StepCall call = plan.call_with_sums(layer);
    clear_on_device(plan.page_sums().data(), plan.page_sums().bytes());
    launch_attend(call);
    launch_finish(call);
    launch_page_count(group, plan.page_counts(), call.n_items, plan.most_runs());
}

// As check_mass, of the pages of a head.
void check_page_scores(const DecodeCache& cache, const StepPlan& plan, StepResult* result) {
    const Shape& s = cache.shape();
    clear_on_device(plan.page_counters().data(), plan.page_counters().bytes());  // items have fewer runs than there is room for
    launch_with_page_scores(plan, cache.layers() - 1, s.group);
    std::vector<int64_t> counters(size_t(plan.page_counters().bytes() / 8));
    from_device(counters.data(), plan.page_counters().data(), plan.page_counters().bytes());
    const size_t of_head = counters.size() / size_t(s.batch * s.kv_heads);
    for (size_t first = 0; first < counters.size(); first += of_head) {
        double sum = 0;
        for (size_t i = first; i < first + of_head; i++) {
            sum += double(counters[i]);
        }
        result->mass_error = std::max(result->mass_error, std::abs(sum / double(1 << 30) / s.group - 1));
    }
}

void check(const DecodeCache& cache, const StepPlan& plan, const std::vector<std::pair<int64_t, ExactRow>>& exact_rows,
           StepResult* result) {
    check_rows(cache, plan, exact_rows, result);
    if (cache.shape().new_tokens == 0) {
        check_mass(cache, plan, result);
        check_page_scores(cache, plan, result);
    }
}

// Microseconds of one launch, over all layers in turn.
template <class Launch>
std::vector<double> time_layers(const DecodeCache& cache, const StepOptions& options, const Launch& launch) {
    const int64_t turns = ceil_div(options.launches, cache.layers());
    std::vector<double> us = time_rounds(
        [&] {
            for (int64_t i = 0; i < turns * cache.layers(); i++) {
                launch(i % cache.layers());
            }
        },
        options.samples);
    for (double& number : us) {
        number /= double(turns * cache.layers());
    }
    return us;
}

std::vector<double> time_step(const DecodeCache& cache, const StepPlan& plan, const StepOptions& options) {
    return time_layers(cache, options, [&](int64_t layer) {
        launch_attend(plan.call(layer));
        launch_finish(plan.call(layer));
    });
}

// Of q * k and p * v, two operations for each pair of numbers; query t of n sees all but the n - 1 - t last tokens.
double products_of(const DecodeCache& cache, int64_t tokens) {
    const Shape& s = cache.shape();
    const double seen = double(tokens) * (double(s.context) - double(tokens - 1) / 2);
    return 2.0 * seen * double(s.batch * s.kv_heads * s.group) * double(cache.format().k_dim + cache.format().v_dim);
}

}  // namespace

StepResult bench_step(const DecodeCache& cache, const StepOptions& options) {
    const Shape& s = cache.shape();
    const kvc::LayerFormat& f = cache.format();
    const Queries q = random_queries(s.batch * std::max<int64_t>(1, s.new_tokens) * s.kv_heads * s.group * f.k_dim);
    StepResult result;
    result.bytes = cache.bytes_read();
    result.bytes_per_element = double(result.bytes) / double(s.batch * s.kv_heads * s.context * (f.k_dim + f.v_dim));
    result.split_tokens = library_split_tokens(s);
    const StepPlan plan(cache, q.halves, result.split_tokens);
    const std::vector<double> us = time_step(cache, plan, options);
    result.us = median_of(us);
    result.us_low = *std::min_element(us.begin(), us.end());
    result.us_high = *std::max_element(us.begin(), us.end());
    result.us_of_split.emplace_back(result.split_tokens, result.us);
    result.products = products_of(cache, plan.tokens());
    result.attend_us = median_of(time_layers(cache, options, [&](int64_t layer) { launch_attend(plan.call(layer)); }));
    if (s.new_tokens == 0) {
        result.mass_us =
            median_of(time_layers(cache, options, [&](int64_t layer) { launch_mass(plan.call(layer), plan.mass_items(layer)); }));
        result.page_us = median_of(time_layers(cache, options, [&](int64_t layer) { launch_with_page_scores(plan, layer, s.group); }));
    }
    const auto exact = exact_rows(cache, plan, q, options.rows_checked);
    check(cache, plan, exact, &result);
    for (const int64_t split_tokens : options.other_splits) {
        if (split_tokens != result.split_tokens) {
            const StepPlan other(cache, q.halves, split_tokens);
            result.us_of_split.emplace_back(split_tokens, median_of(time_step(cache, other, options)));
            check(cache, other, exact, &result);
        }
    }
    return result;
}

double median_of(std::vector<double> numbers) {
    std::sort(numbers.begin(), numbers.end());
    const size_t n = numbers.size();
    return n % 2 ? numbers[n / 2] : (numbers[n / 2 - 1] + numbers[n / 2]) / 2;
}

}  // namespace kvc_bench
