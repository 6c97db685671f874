// Runs a script against the C API and keeps what can be observed.
#pragma once

#include <kvc.h>
#include <map>
#include <string>
#include <vector>

#include "tests/model/inputs.h"
#include "tests/reference/sha256.h"

namespace kvc_scripts {

// The kvc_device of the caches that scripts make from now on; KVC_DEVICE_DEFAULT unless a program says otherwise.
int32_t& device_of_scripts();
// How far its kernels round q and p on their way into products (kvc_reference::Query); 0 unless a program says otherwise.
double& product_of_scripts();

struct RunOptions {
    std::string target;                     // kernel target to force; "" = the best
    int64_t threads = 0;                    // of the cache
    int64_t ordinal = 0;                    // of the device, where no target is forced
    double product = product_of_scripts();  // how far the kernels round q and p on their way into products (kvc_reference::Query)
};

// What one operation let a caller see. bytes is everything of it that enters the digest, in the order of docs/SCRIPTS.md.
struct Outcome {
    int32_t status = KVC_OK;
    std::string message;
    std::vector<uint8_t> bytes;
    std::vector<float> out, lse;   // attend: [tokens][q_heads][v_dim], [tokens][q_heads]
    std::vector<float> values;     // read
    std::vector<int64_t> numbers;  // positions, mass, counts, rungs, live, length, floor, reports, stats, plan, bytes of a snapshot
    std::vector<uint8_t> codes;

    // Numbers that the operation gave, and as bytes behind what it gave before.
    void set_numbers(std::vector<int64_t> given);
    void add_bytes(const void* from, size_t n);
};

// The digest of a script: of what all of its operations let a caller see.
class ScriptDigest {
public:
    void add(const Outcome& outcome);
    std::string hex() const { return hash_.hex(); }

private:
    kvc_reference::Sha256 hash_;
};

class Replay {
public:
    explicit Replay(RunOptions options) : run_options_(std::move(options)) {}
    ~Replay();
    Replay(const Replay&) = delete;
    Replay& operator=(const Replay&) = delete;

    // Throws std::runtime_error if the line makes no sense as a script (an unknown verb, a missing number).
    Outcome run(const Operation& operation);

    const ScriptShapes& shapes() const { return shapes_; }
    const StepRecord& step(const std::string& name) const;
    uint64_t data_of(const std::string& sequence) const;
    int64_t first_position(const std::string& sequence) const;
    kvc_cache* cache() const { return cache_; }
    kvc_seq handle_of(const std::string& sequence) const;
    // A sequence that came from elsewhere, under a name; its data goes on as that of `like` in the other replay.
    void adopt(const std::string& name, kvc_seq handle, const Replay& other, const std::string& like);

private:
    using Verb = void (Replay::*)(const Operation&, Outcome&);
    static const std::map<std::string, Verb>& verbs();

    void layer(const Operation&, Outcome&);
    void create(const Operation&, Outcome&);
    void plan(const Operation&, Outcome&);
    void sink_logits(const Operation&, Outcome&);
    void seq(const Operation&, Outcome&);
    void fork(const Operation&, Outcome&);
    void truncate(const Operation&, Outcome&);
    void destroy(const Operation&, Outcome&);
    void prompt(const Operation&, Outcome&);
    void begin(const Operation&, Outcome&);
    void append(const Operation&, Outcome&);
    void attend(const Operation&, Outcome&);
    void commit(const Operation&, Outcome&);
    void abort(const Operation&, Outcome&);
    void evict(const Operation&, Outcome&);
    void keep(const Operation&, Outcome&);
    void merge(const Operation&, Outcome&);
    void step_down(const Operation&, Outcome&);
    void read(const Operation&, Outcome&);
    void codes(const Operation&, Outcome&);
    void mass(const Operation&, Outcome&);
    void positions(const Operation&, Outcome&);
    void counts(const Operation&, Outcome&);
    void rungs(const Operation&, Outcome&);
    void export_snapshot(const Operation&, Outcome&);
    void import_snapshot(const Operation&, Outcome&);
    void live(const Operation&, Outcome&);
    void length(const Operation&, Outcome&);
    void floor(const Operation&, Outcome&);
    void stats(const Operation&, Outcome&);
    void publish(const Operation&, Outcome&);
    void lookup(const Operation&, Outcome&);
    void unpublish(const Operation&, Outcome&);
    void prefix_clear(const Operation&, Outcome&);
    void prefix_budget(const Operation&, Outcome&);
    void prefix_stats(const Operation&, Outcome&);

    // A list with an entry for each live token of a head, from the function that gives it.
    using ReadList = kvc_status (*)(const kvc_cache*, kvc_seq, int64_t, int64_t, int64_t*, int64_t, int64_t*, kvc_error*);
    void read_list(const Operation&, Outcome&, ReadList);

    RunOptions run_options_;
    ScriptShapes shapes_;
    kvc_cache* cache_ = nullptr;
    std::map<std::string, kvc_seq> sequences_;
    std::map<std::string, uint64_t> data_;
    std::map<std::string, int64_t> first_positions_;
    std::map<std::string, StepRecord> steps_;
    std::map<std::string, std::vector<uint8_t>> snapshots_;
    kvc_error error_{};
};

}  // namespace kvc_scripts
