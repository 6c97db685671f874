// The prefix index of the model: a list of entries and a plain search. Where memory is tight the library may drop any entry, so random
// scripts publish only where it is not.
#include <algorithm>

#include "tests/model/model_run.h"

namespace kvc_scripts {

using kvc_reference::SequenceState;

namespace {

int64_t in_common(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

int32_t ModelRun::publish(const Operation& operation, const Outcome*) {
    const std::vector<int64_t> tokens = prompt_tokens(operation);
    if (tokens.empty() || operation.number("pinned") < 0 || operation.number("pinned") > 1) return KVC_E_ARGUMENT;
    const int64_t sealed = operation.number("seal");
    if (sealed < 0 || sealed > 1) return KVC_E_ARGUMENT;
    const int64_t id = id_of(operation.name(0));
    const SequenceState* s = model_->find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    const int64_t first = s->first_position, floor = model_->exact_floor(id) - first;
    const int64_t n = static_cast<int64_t>(tokens.size());
    Entry entry = {tokens, operation.word("salt", ""), first, sealed ? n : floor, 0, sealed == 1};
    const kvc_status status = model_->fork(id, first + n, false, &entry.id);
    if (status != KVC_OK) return status;
    if (sealed && !model_->seal(entry.id)) return KVC_E_ARGUMENT;
    const auto same = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) {
        return e.tokens == entry.tokens && e.salt == entry.salt && e.first_position == first;
    });
    if (same != entries_.end() && same->sealed == entry.sealed && same->floor <= entry.floor) return KVC_OK;
    if (same != entries_.end()) entries_.erase(same);
    entries_.push_back(entry);
    return KVC_OK;
}

int32_t ModelRun::lookup(const Operation& operation, const Outcome* actual) {
    const std::vector<int64_t> prompt = prompt_tokens(operation);
    const int64_t first = operation.number("first_position"), prompt_length = operation.number("prompt_length");
    if (first < 0 || first > int64_t{1} << 53 || prompt_length < 0) return KVC_E_ARGUMENT;
    int64_t shared = 0, length = 0, id = 0;
    for (const Entry& entry : entries_) {
        if (entry.salt != operation.word("salt", "") || entry.first_position != first) continue;
        const int64_t p = in_common(entry.tokens, prompt);
        const int64_t cut = std::min(p, static_cast<int64_t>(prompt.size()) - 1);
        shared = std::max(shared, p);
        if (cut >= entry.floor && cut >= length && cut > 0) length = cut, id = entry.id;  // of several the one published last
    }
    int64_t made = 0;
    if (id == 0)
        made = model_->create(first, prompt_length);
    else if (const kvc_status status = model_->fork(id, first + length, false, &made); status != KVC_OK)
        set_fault("lookup: the model cannot cut its entry at " + std::to_string(length));
    sequences_[operation.name(0)] = made;
    data_[operation.name(0)] = operation.seed("data");
    if (actual && actual->status == KVC_OK) expect_equal("lookup", {length, shared}, actual->numbers);
    return KVC_OK;
}

int32_t ModelRun::unpublish(const Operation& operation, const Outcome* actual) {
    const std::vector<int64_t> tokens = prompt_tokens(operation);
    const auto removed = std::erase_if(entries_, [&](const Entry& entry) {
        return entry.salt == operation.word("salt", "") && in_common(entry.tokens, tokens) == static_cast<int64_t>(tokens.size());
    });
    if (actual && actual->status == KVC_OK) expect_equal("unpublish", {static_cast<int64_t>(removed)}, actual->numbers);
    return KVC_OK;
}

int32_t ModelRun::prefix_clear(const Operation&, const Outcome*) {
    entries_.clear();
    return KVC_OK;
}

int32_t ModelRun::prefix_stats(const Operation&, const Outcome* actual) {
    int64_t tokens = 0;
    for (const Entry& entry : entries_)
        tokens += static_cast<int64_t>(entry.tokens.size());
    if (actual && actual->status == KVC_OK)
        expect_equal("prefix_stats", {static_cast<int64_t>(entries_.size()), tokens}, {actual->numbers[0], actual->numbers[1]});
    return KVC_OK;
}

}  // namespace kvc_scripts
