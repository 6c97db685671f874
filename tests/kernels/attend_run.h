// Runs a table's attend and finish on an item, and compares with exact attention.
#pragma once
#include <memory>
#include <vector>

#include "tests/kernels/exact_attention.h"
#include "tests/kernels/head.h"

namespace kvc_test {

// How the rows of an item ask.
struct Ask {
    int64_t tokens = 1, group = 1, first_position = 0;
    bool prompt_class = false;
    float scale = 0.125f, soft_cap = 0;
    int64_t sliding_window = INT64_MAX, causal_offset = 0;
    const float* sink_logit = nullptr;
};

struct Answer {
    std::vector<float> states;  // [tokens][group][v_dim + 2]
    std::vector<float> out;     // [tokens][group][v_dim]
    std::vector<float> lse;     // [tokens][group]
};

kvc::AttendParams params_of(Head& head, const Ask& ask);
// Scratch of exactly the size that the table asks for.
struct ScratchFree {
    void operator()(std::byte* block) const;
};
std::unique_ptr<std::byte[], ScratchFree> scratch_for(Head& head, const Ask& ask);

// q: f32 [tokens][group][k_dim].
void fill_item(const Ask& ask, const float* q, kvc::AttendItem* item);
Answer attend(Head& head, Item& item, const Ask& ask, const std::vector<float>& q);
void finish(const LayerFormat& format, const KernelTable& table, const float* states, int64_t splits, int64_t stride, const Ask& ask,
            float* out, float* lse);

Exact exact_row(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q, int64_t token, int64_t g);
// Every number of every row within its bound; returns the relative Frobenius error of all rows.
double check_answer(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q, const Answer& answer);

}  // namespace kvc_test
