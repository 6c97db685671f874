#include "tests/kernels/attend_run.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <new>

namespace kvc_test {

kvc::AttendParams params_of(Head& head, const Ask& ask) {
    const int64_t dim = head.format().k_dim;
    return {&head.format(), head.records().view(), kvc::Dtype::f32,    ask.group * dim,  dim, ask.group,
            ask.scale,      ask.soft_cap,          ask.sliding_window, ask.causal_offset};
}

void ScratchFree::operator()(std::byte* block) const { ::operator delete[](block, std::align_val_t{128}); }

std::unique_ptr<std::byte[], ScratchFree> scratch_for(Head& head, const Ask& ask) {
    const int64_t bytes = head.table().scratch_bytes(head.format(), ask.group, ask.tokens);
    auto* block = static_cast<std::byte*>(::operator new[](size_t(bytes), std::align_val_t{128}));
    std::memset(block, 0xff, size_t(bytes));
    return std::unique_ptr<std::byte[], ScratchFree>(block);
}

void fill_item(const Ask& ask, const float* q, kvc::AttendItem* item) {
    item->q = q;
    item->tokens = ask.tokens;
    item->first_position = ask.first_position;
    item->prompt_class = ask.prompt_class;
}

void finish(const LayerFormat& format, const KernelTable& table, const float* states, int64_t splits, int64_t stride, const Ask& ask,
            float* out, float* lse) {
    table.finish({&format, states, splits, stride, ask.sink_logit, kvc::Dtype::f32, out, lse, nullptr});
}

Answer attend(Head& head, Item& item, const Ask& ask, const std::vector<float>& q) {
    const int64_t dim = head.format().v_dim, rows = ask.tokens * ask.group;
    Answer answer{std::vector<float>(size_t(rows * (dim + 2)), NAN), std::vector<float>(size_t(rows * dim), NAN),
                  std::vector<float>(size_t(rows), NAN)};
    fill_item(ask, q.data(), &item.item);
    item.item.state = answer.states.data();
    item.item.state_token_stride = ask.group;
    head.table().attend(params_of(head, ask), item.item, scratch_for(head, ask).get());
    for (int64_t row = 0; row < rows; ++row) {
        finish(head.format(), head.table(), answer.states.data() + row * (dim + 2), 1, 0, ask, answer.out.data() + row * dim,
               &answer.lse[size_t(row)]);
    }
    return answer;
}

Exact exact_row(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q, int64_t token, int64_t g) {
    const Query query{q.data() + (token * ask.group + g) * head.format().k_dim,
                      ask.first_position + token,
                      double(ask.scale),
                      double(ask.soft_cap),
                      ask.sliding_window,
                      ask.causal_offset,
                      ask.sink_logit};
    return exact_attention(head.format(), item.tiles, query, precision_of(head.table(), ask.prompt_class));
}

double check_answer(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q, const Answer& answer) {
    const size_t dim = size_t(head.format().v_dim);
    double error = 0, energy = 0, worst = 0;
    for (int64_t t = 0; t < ask.tokens; ++t) {
        for (int64_t g = 0; g < ask.group; ++g) {
            const Exact exact = exact_row(head, item, ask, q, t, g);
            const size_t row = size_t(t * ask.group + g);
            if (exact.lse == -HUGE_VAL) {
                REQUIRE(answer.lse[row] == -HUGE_VALF);
            } else {
                worst = std::max(worst, std::abs(double(answer.lse[row]) - exact.lse) / exact.lse_bound);
                REQUIRE(std::isfinite(answer.lse[row]));
            }
            for (size_t d = 0; d < dim; ++d) {
                const double difference = double(answer.out[row * dim + d]) - exact.out[d];
                REQUIRE(std::isfinite(difference));
                worst = std::max(worst, exact.out_bound[d] > 0 ? std::abs(difference) / exact.out_bound[d]
                                        : difference == 0      ? 0
                                                               : HUGE_VAL);
                error += difference * difference;
                energy += exact.out[d] * exact.out[d];
            }
        }
    }
    CHECK(worst <= 1.0);
    return energy > 0 ? std::sqrt(error / energy) : error;
}

}  // namespace kvc_test
