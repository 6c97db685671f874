// A small cache through kvc.h alone, and checks of an error's status and message.
#pragma once

#include <functional>
#include <kvc.h>
#include <string>
#include <vector>

#include "doctest/doctest.h"

namespace capi_tests {

inline kvc_error empty_error() {
    kvc_error error{};
    error.struct_size = sizeof error;
    return error;
}

inline kvc_options small_options() {
    kvc_options options;
    REQUIRE(kvc_options_init(&options, sizeof options) == KVC_OK);
    options.layers = 2, options.kv_heads = 2, options.q_heads = 4, options.k_dim = 32;
    options.arena_tokens = 1024, options.arena_sequences = 4;
    return options;
}

// Two layers, 2 kv heads, 4 query heads, head dim 32; sequence `seq` holds 5 tokens.
struct SmallCache {
    explicit SmallCache(const kvc_options& options = small_options());
    ~SmallCache();
    SmallCache(const SmallCache&) = delete;
    SmallCache& operator=(const SmallCache&) = delete;
    kvc_step* begin(int64_t tokens = 1);
    void append_all(kvc_step* step, int64_t tokens);

    kvc_cache* cache = nullptr;
    kvc_seq seq = 0;
    kvc_error error = empty_error();
    std::vector<float> k, v, q, out, lse;
};

// One call of every function that takes a cache, sequence or step, with sensible arguments otherwise.
struct Call {
    const char* name;
    bool takes_seq;
    std::function<kvc_status(kvc_cache*, kvc_seq, kvc_error*)> run;
};
std::vector<Call> cache_calls();

struct StepCall {
    const char* name;
    std::function<kvc_status(kvc_step*, SmallCache&, kvc_error*)> run;
};
std::vector<StepCall> step_calls();

// The status that a call left in an error record; creators return no status themselves.
inline kvc_status status_of(const kvc_error* error) { return static_cast<kvc_status>(error->status); }

inline void expect_message(const kvc_error& error, const std::string& word) {
    CHECK_MESSAGE(std::string(error.message).find(word) != std::string::npos, "\"" << error.message << "\" does not name " << word);
}

}  // namespace capi_tests
