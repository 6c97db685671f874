// What the library shows, held against the model: attention within its derived bound, everything else exactly.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tests/model/model_run.h"
#include "tests/model/shrink.h"

namespace kvc_scripts {

using kvc_reference::Attention;
using kvc_reference::LayerShape;
using kvc_reference::SequenceState;

namespace {

// Rounding of a result to the caller's type: half a unit in the last place, and half the smallest number.
double output_rounding(int32_t dtype, double x) {
    if (dtype == KVC_F16) return std::fabs(x) * 0x1p-11 + 0x1p-25;
    if (dtype == KVC_BF16) return std::fabs(x) * 0x1p-8;
    return std::fabs(x) * 0x1p-24;
}

std::string text(const char* format, double a, double b, double c) {
    char line[200];
    std::snprintf(line, sizeof line, format, a, b, c);
    return line;
}

}  // namespace

void ModelRun::expect_equal(const char* what, const std::vector<int64_t>& expected, const std::vector<int64_t>& actual) {
    compared_ += static_cast<int64_t>(expected.size());
    if (expected == actual) return;
    size_t at = 0;
    while (at < expected.size() && at < actual.size() && expected[at] == actual[at])
        ++at;
    const auto show = [&](const std::vector<int64_t>& list) {
        return at < list.size() ? std::to_string(list[at]) : std::string("nothing");
    };
    set_fault(std::string(what) + ": the model has " + show(expected) + ", the library " + show(actual) + " at " + std::to_string(at) +
              " of " + std::to_string(expected.size()) + " and " + std::to_string(actual.size()));
}

void ModelRun::compare_attention(const StepRecord& step, int64_t dim, const std::vector<Attention>& expected, const Outcome& actual) {
    if (actual.out.size() != expected.size() * static_cast<size_t>(dim)) return set_fault("attend: wrong number of outputs");
    for (size_t row = 0; row < expected.size(); ++row) {
        const Attention& a = expected[row];
        const std::string where = "attend: row " + std::to_string(row);
        for (int64_t d = 0; d < dim; ++d) {
            const double got = actual.out[row * static_cast<size_t>(dim) + static_cast<size_t>(d)], want = a.out[d];
            const double bound = a.out_bound[d] + output_rounding(step.out_dtype, std::fabs(want) + a.out_bound[d]);
            const bool overflows = step.out_dtype == KVC_F16 && std::isinf(got) && got * want > 0 && std::fabs(want) + bound >= 65520;
            if (!overflows && !(std::fabs(got - want) <= bound))
                return set_fault(where + " element " + std::to_string(d) + text(": want %.9g, got %.9g, bound %.3g", want, got, bound));
        }
        compared_ += dim;
        if (actual.lse.empty()) continue;
        const double got = actual.lse[row];
        const bool same_infinity = std::isinf(a.lse) && got == a.lse;
        if (!same_infinity && !(std::fabs(got - a.lse) <= a.lse_bound))
            return set_fault(where + text(" lse: want %.9g, got %.9g, bound %.3g", a.lse, got, a.lse_bound));
    }
}

bool ModelRun::has_head(const Operation& operation) const {
    const int64_t layer = operation.number("layer"), head = operation.number("head");
    return layer >= 0 && layer < shapes_.options.layers && head >= 0 && head < shapes_.layers[layer].kv_heads;
}

int32_t ModelRun::live(const Operation& operation, const Outcome* actual) {
    if (!has_head(operation)) return KVC_E_ARGUMENT;
    if (!sequence(operation.name(0))) return KVC_E_HANDLE;
    const auto indices = model_->live(id_of(operation.name(0)), operation.number("layer"), operation.number("head"));
    if (actual) expect_equal("live", {static_cast<int64_t>(indices.size())}, actual->numbers);
    return KVC_OK;
}

int32_t ModelRun::positions(const Operation& operation, const Outcome* actual) {
    if (!has_head(operation)) return KVC_E_ARGUMENT;
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    auto indices = model_->live(id_of(operation.name(0)), operation.number("layer"), operation.number("head"));
    for (int64_t& index : indices)
        index += s->first_position;
    if (actual) expect_equal("positions", indices, actual->numbers);
    return KVC_OK;
}

int32_t ModelRun::mass(const Operation& operation, const Outcome* actual) {
    if (!has_head(operation)) return KVC_E_ARGUMENT;
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    if (!actual || actual->status != KVC_OK) return KVC_OK;
    const int64_t layer = operation.number("layer"), head = operation.number("head");
    const auto indices = model_->live(id_of(operation.name(0)), layer, head);
    if (indices.size() != actual->numbers.size()) return set_fault("mass: another number of tokens"), KVC_OK;
    for (size_t i = 0; i < indices.size(); ++i) {
        const kvc_reference::Row& row = s->layers[layer].heads[head][indices[i]];
        const auto difference = static_cast<double>(std::llabs(row.mass - actual->numbers[i]));
        if (difference > row.mass_bound)
            set_fault("mass of token " + std::to_string(indices[i]) +
                      text(": want %.0f, got %.0f, bound %.0f", static_cast<double>(row.mass), static_cast<double>(actual->numbers[i]),
                           row.mass_bound));
    }
    compared_ += static_cast<int64_t>(indices.size());
    return KVC_OK;
}

int32_t ModelRun::read(const Operation& operation, const Outcome* actual) {
    if (!has_head(operation)) return KVC_E_ARGUMENT;
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    const int64_t layer = operation.number("layer"), head = operation.number("head"), first = operation.number("first");
    const auto indices = model_->live(id_of(operation.name(0)), layer, head);
    const auto live = static_cast<int64_t>(indices.size());
    const int64_t n = operation.number("n", live - first);
    if (first < 0 || n < 0 || first + n > live) return operation.number("n") < 0 ? KVC_E_ARGUMENT : KVC_E_RANGE;
    if (!actual || actual->status != KVC_OK) return KVC_OK;
    const bool keys = part_of(operation) == KVC_KEYS;
    const int64_t dim = keys ? shapes_.layers[layer].k_dim : shapes_.layers[layer].v_dim;
    for (int64_t i = 0; i < n; ++i) {
        bool coded = false;
        const std::vector<float> expected = model_->read(id_of(operation.name(0)), layer, head, keys, indices[first + i], &coded);
        for (int64_t d = 0; d < dim; ++d)
            if (expected[d] != actual->values[i * dim + d])
                return set_fault("read: token " + std::to_string(indices[first + i]) + (coded ? " (codes)" : " (16 bits)") +
                                 text(" channel %.0f: want %.9g, got %.9g", static_cast<double>(d), expected[d],
                                      actual->values[i * dim + d])),
                       KVC_OK;
    }
    compared_ += n * dim;
    return KVC_OK;
}

int32_t ModelRun::codes(const Operation& operation, const Outcome* actual) {
    if (!has_head(operation)) return KVC_E_ARGUMENT;
    const int64_t layer = operation.number("layer"), head = operation.number("head");
    const bool keys = part_of(operation) == KVC_KEYS;
    const LayerShape& shape = model_->layers()[layer];
    if ((keys ? shape.codec.k : shape.codec.v).bits == 16) return KVC_E_UNSUPPORTED;
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    if (!actual || actual->status != KVC_OK) return KVC_OK;
    // Eviction, sliding windows and inexact cuts leave pages of their own; their codes are seen through read.
    if (s->evicted || s->cut_inexactly || shape.sliding_window > 0) return KVC_OK;
    const std::vector<uint8_t> expected = model_->codes(id_of(operation.name(0)), layer, head, keys);
    if (expected != actual->codes) {
        const auto at =
            std::mismatch(expected.begin(), expected.end(), actual->codes.begin(), actual->codes.end()).first - expected.begin();
        set_fault("codes: the model has " + std::to_string(expected.size()) + ", the library " + std::to_string(actual->codes.size()) +
                  "; they differ at " + std::to_string(at));
    }
    compared_ += static_cast<int64_t>(expected.size());
    return KVC_OK;
}

// After a repack: what the library holds now is read, checked against what was held before, and taken over.
static std::string adopt_repacked(Replay& replay, ModelRun& run, const std::string& name) {
    kvc_reference::ReferenceModel& model = *run.model();
    const int64_t id = run.id_of(name);
    for (int64_t layer = 0; layer < run.shapes().options.layers; ++layer)
        for (int64_t head = 0; head < run.shapes().layers[layer].kv_heads; ++head) {
            Operation line;
            line.verb = "read", line.names = {name};
            line.set("layer", layer).set("head", head).set("part", "keys");
            const Outcome outcome = replay.run(line);
            if (outcome.status != KVC_OK) return "read after a repack: " + outcome.message;
            const std::string fault = model.adopt_keys(id, layer, head, outcome.values);
            if (!fault.empty()) return fault;
        }
    return "";
}

Comparison compare(const Script& script, const RunOptions& options) {
    Comparison result;
    Replay replay(options);
    ScriptDigest digest;
    ModelRun run(options.target != "scalar", options.product);
    for (size_t i = 0; i < script.size() && result.fault.empty(); ++i) {
        const Outcome outcome = replay.run(script[i]);
        digest.add(outcome);
        const Verdict verdict = run.apply(script[i], &outcome);
        result.fault = verdict.fault, result.line = i;
        result.operations += 1, result.refused += outcome.status != KVC_OK;
        const bool evicts = script[i].verb == "evict" || script[i].verb == "keep";
        if (result.fault.empty() && evicts && outcome.status == KVC_OK && outcome.numbers[3] > 0)
            result.fault = adopt_repacked(replay, run, script[i].name(0));
    }
    if (!result.fault.empty())
        result.kind = script[result.line].verb + " " + result.fault.substr(0, result.fault.find_first_of("0123456789:("));
    result.compared = run.compared();
    result.digest = digest.hex();
    return result;
}

Script shrink_fault(const Script& script, const RunOptions& options, int64_t attempts) {
    const std::string kind = compare(script, options).kind;
    const Fails fails = [&](const Script& candidate) {
        try {
            return compare(candidate, options).kind == kind;
        } catch (const std::exception&) {
            return false;  // no script any more
        }
    };
    return shrink(script, fails, attempts);
}

}  // namespace kvc_scripts
