// A cache of one layer with one long sequence, filled through kvc.h, and the steps that are timed over it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kvc.h"

#include "bench/workload.h"

namespace bench {

struct CacheRequest {
    Shape shape;
    std::string codec;    // preset name or codec string
    std::string target;   // kernel target, "" = the best one
    int64_t context = 0;  // tokens held
    int64_t threads = 1;  // in all, the caller's included
    std::string policy;   // "" = none

    bool operator==(const CacheRequest& other) const;
};

// What one step took, in seconds.
struct StepSeconds {
    double begin = 0, append = 0, attend = 0, commit = 0;
    double all() const { return begin + append + attend + commit; }
};

// Every failed call ends the program with kvc's message: a figure of a failed call means nothing.
class LayerCache {
public:
    LayerCache(const CacheRequest& request, const Numbers& numbers);
    ~LayerCache();
    LayerCache(const LayerCache&) = delete;
    LayerCache& operator=(const LayerCache&) = delete;

    // A branch of the filled sequence that steps may grow; the filled one stays as it is. It replaces the branch before.
    // A prompt's queries are computed by the prompt kernels.
    void branch(bool prompt);
    // One step of so many tokens on the branch: begin, append, attend, commit.
    StepSeconds step(int64_t tokens);
    // The same without attend.
    StepSeconds append_only(int64_t tokens);
    // A short attention that wakes the worker threads up, as the layers of a model do for each other.
    void wake_threads();

    // Bytes of the filled sequence: what an attend has to read.
    int64_t bytes() const { return bytes_; }
    const CacheRequest& request() const { return request_; }
    // The last step's queries and output [tokens][q_heads][head_dim].
    const std::vector<float>& queries() const { return q_; }
    const std::vector<float>& output() const { return out_; }
    // What the branch holds of one head, dequantized: [tokens][head_dim].
    std::vector<float> read(kvc_part part, int64_t head) const;

private:
    StepSeconds run(kvc_seq seq, int64_t tokens, bool attend);
    void fill_inputs(int64_t tokens);

    CacheRequest request_;
    const Numbers& numbers_;
    kvc_cache* cache_ = nullptr;
    kvc_seq filled_ = 0, branch_ = 0, short_ = 0;
    int64_t bytes_ = 0;
    uint64_t seed_ = 0;
    std::vector<float> k_, v_, q_, out_;
};

}  // namespace bench
