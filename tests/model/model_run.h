// Runs a script on the reference model, beside a replay on the library or alone, and says where the two differ.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/model/inputs.h"
#include "tests/model/replay.h"
#include "tests/reference/reference_model.h"

namespace kvc_scripts {

struct Verdict {
    int32_t status = KVC_OK;  // what the model expects
    std::string fault;        // what differs; empty: nothing
};

class ModelRun {
public:
    // planes: the kernels may cut q and p to two int8 planes (targets other than scalar).
    explicit ModelRun(bool planes, double product = 0) : planes_(planes), product_(product) {}

    // Can this operation run out of memory? A truncate can: it copies sinks and pages that a fork shares.
    static bool may_exhaust(const std::string& verb);
    // actual null: only the model moves on, and attention is not computed.
    Verdict apply(const Operation& operation, const Outcome* actual);

    const ScriptShapes& shapes() const { return shapes_; }
    const kvc_reference::SequenceState* sequence(const std::string& name) const;
    const StepRecord* open_step(const std::string& name) const;
    kvc_reference::ReferenceModel* model() { return model_.get(); }
    int64_t id_of(const std::string& name) const;
    int64_t step_id(const std::string& name) const { return steps_.at(name); }
    int64_t compared() const { return compared_; }  // numbers held against the model

private:
    using Verb = int32_t (ModelRun::*)(const Operation&, const Outcome*);
    static const std::map<std::string, Verb>& verbs();

    int32_t layer(const Operation&, const Outcome*);
    int32_t create(const Operation&, const Outcome*);
    int32_t plan(const Operation&, const Outcome*);
    int32_t sink_logits(const Operation&, const Outcome*);
    int32_t seq(const Operation&, const Outcome*);
    int32_t fork(const Operation&, const Outcome*);
    int32_t truncate(const Operation&, const Outcome*);
    int32_t destroy(const Operation&, const Outcome*);
    int32_t prompt(const Operation&, const Outcome*);
    int32_t begin(const Operation&, const Outcome*);
    int32_t append(const Operation&, const Outcome*);
    int32_t attend(const Operation&, const Outcome*);
    int32_t commit(const Operation&, const Outcome*);
    int32_t abort(const Operation&, const Outcome*);
    int32_t evict(const Operation&, const Outcome*);
    int32_t keep(const Operation&, const Outcome*);
    int32_t read(const Operation&, const Outcome*);
    int32_t codes(const Operation&, const Outcome*);
    int32_t mass(const Operation&, const Outcome*);
    int32_t positions(const Operation&, const Outcome*);
    int32_t live(const Operation&, const Outcome*);
    int32_t length(const Operation&, const Outcome*);
    int32_t floor(const Operation&, const Outcome*);
    int32_t stats(const Operation&, const Outcome*);
    int32_t publish(const Operation&, const Outcome*);
    int32_t lookup(const Operation&, const Outcome*);
    int32_t unpublish(const Operation&, const Outcome*);
    int32_t prefix_clear(const Operation&, const Outcome*);
    int32_t prefix_stats(const Operation&, const Outcome*);

    // Is there such a layer and head?
    bool has_head(const Operation& operation) const;
    void expect_equal(const char* what, const std::vector<int64_t>& expected, const std::vector<int64_t>& actual);
    void compare_attention(const StepRecord& step, int64_t dim, const std::vector<kvc_reference::Attention>& expected,
                           const Outcome& actual);
    void set_fault(const std::string& text);

    // A published entry; id is that of a sequence which no script can name.
    struct Entry {
        std::vector<int64_t> tokens;
        std::string salt;
        int64_t first_position, floor, id;
        bool sealed;
    };

    bool planes_;
    double product_;
    ScriptShapes shapes_;
    std::unique_ptr<kvc_reference::ReferenceModel> model_;
    std::map<std::string, int64_t> sequences_, steps_;
    std::map<std::string, uint64_t> data_;
    std::map<std::string, StepRecord> records_;
    std::vector<Entry> entries_;
    std::string fault_;
    int64_t compared_ = 0;
};

// Runs both; the first difference, or an empty text.
struct Comparison {
    std::string fault;
    std::string kind;  // the fault without its numbers
    size_t line = 0;   // of the fault
    std::string digest;
    int64_t operations = 0, refused = 0, compared = 0;  // compared: numbers held against the model
};
Comparison compare(const Script& script, const RunOptions& options);
// The smallest script with a fault of the same kind as this one has.
Script shrink_fault(const Script& script, const RunOptions& options, int64_t attempts);

}  // namespace kvc_scripts
