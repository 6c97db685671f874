// One side of a comparison, as a process: it prepares a case when told, then times single runs of it on request, so that the
// driver can let two sides take turns. Requests and answers are lines on standard input and output:
//
//     prepare KIND SHAPE TYPE LAYOUT CONTEXT THREADS    -> ok BYTES             (the cache; kept if it is the one held already)
//     time MILLISECONDS                                 -> seconds S            (median of single runs until the time is used)
//     check                                             -> error E              (of the last run, against exact attention)
//     bandwidth THREADS                                 -> bytes_per_second B
//
// E is the relative error (Euclidean) of the output against attention in double precision over the cache's own dequantized numbers.
#pragma once
#include <cstdint>
#include <string>

#include "bench/workload.h"

namespace bench {

struct CaseRequest {
    std::string kind;  // decode: one query token; prefill: prompt_tokens query tokens after `context` others
    Shape shape;
    std::string type, layout;
    int64_t context = 0;
    int64_t threads = 1;  // in all

    bool prefill() const { return kind == "prefill"; }
};

constexpr int64_t prompt_tokens = 512;

class Engine {
public:
    virtual ~Engine() = default;
    // Fills the cache of a case; returns its bytes. In decode the run's own token is the last one of the context.
    virtual int64_t prepare(const CaseRequest& request) = 0;
    // Not timed: before a series of runs.
    virtual void start_series() = 0;
    // Not timed: a small computation by the same threads, so that none of them has to be woken up in the run that is timed.
    virtual void wake_threads() = 0;
    // The run that is timed, from the numbers of the new tokens to the output; returns seconds.
    virtual double run() = 0;
    virtual double check() = 0;
};

// Answers requests until standard input ends.
int serve(Engine& engine);

}  // namespace bench
