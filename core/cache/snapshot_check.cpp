// What the tables of a sequence obey. Everything else in the library trusts this; only a snapshot can bring tables from outside.
#include <algorithm>
#include <bit>

#include "core/cache/snapshot.h"

namespace kvc {
namespace {

constexpr int64_t position_limit = int64_t{1} << 53;
// Counters beyond this are nobody's work; below it, adding to them cannot overflow for longer than a machine lasts.
constexpr int64_t counter_limit = int64_t{1} << 62;
constexpr float log_count_limit = 21.5f;  // a little above log(2^31)

bool within(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

// Which token indices a head holds, so that none is held twice: bit t of entry p is token t of page first + p.
class HeldTokens {
public:
    HeldTokens(int64_t first_page, int64_t end_page) : first_(first_page), held_(size_t(std::max<int64_t>(0, end_page - first_page))) {}
    bool add(const PageRule& rule, int64_t index) {
        const int64_t page = rule.page_of(index);
        uint64_t& bits = held_[size_t(page - first_)];
        const uint64_t bit = uint64_t{1} << (index - rule.page_start(page));
        const bool fresh = !(bits & bit);
        bits |= bit;
        return fresh;
    }

private:
    int64_t first_;
    std::vector<uint64_t> held_;
};

const char* check_queries(const HeadPages& head, const Layer& shape, const PolicySpec& policy) {
    if (head.queries.empty()) return nullptr;
    if (!policy || !policy.policy->traits.queries || int64_t(head.queries.size()) != shape.group()) return "query statistics";
    for (const QuerySums& sums : head.queries) {
        const auto far = [](int64_t x) { return !within(x, -counter_limit, counter_limit); };
        const bool wrong = std::any_of(sums.sum.begin(), sums.sum.end(), far) ||
                           std::any_of(sums.square.begin(), sums.square.end(), [](int64_t x) { return !within(x, 0, counter_limit); });
        if (wrong || !within(sums.count, 0, counter_limit)) return "query statistics";
    }
    return nullptr;
}

int64_t position_in(std::span<const std::byte> side, int64_t slot) {
    ByteReader in(side.subspan(size_t(slot) * sizeof(int64_t)));
    return int64_t(in.get<uint64_t>());
}

// Live tokens of a coded page, in ascending order and none before the page's own place.
const char* check_coded(const Sequence& sequence, const PageEntry& entry, int64_t page, const PageRule& rule,
                        std::span<const RecordDraft> records, HeldTokens* held) {
    if (!entry.record) return entry.side || entry.live != all_live ? "a dropped page" : nullptr;
    const std::span<const std::byte> side = entry.side ? records[entry.side - 1].bytes : std::span<const std::byte>();
    int64_t last = rule.page_start(page) - 1;
    for (int64_t t = 0; t < page_tokens; t++) {
        if (!(entry.live >> t & 1)) continue;
        int64_t index = rule.page_start(page) + t;
        if (entry.side) {
            const int64_t position = position_in(side, t);
            if (!within(position, 0, counter_limit)) return "the position of a token";
            index = position - sequence.first_position;
        }
        if (index <= last || index >= sequence.length || !held->add(rule, index)) return "the position of a token";
        last = index;
    }
    return nullptr;
}

const char* check_window(const Sequence& sequence, const PageEntry& entry, int64_t page, int64_t coded_end, const PageRule& rule,
                         HeldTokens* held) {
    if (!entry.record) return "a 16-bit page that is not there";
    const int64_t start = rule.page_start(page), tokens = std::min<int64_t>(page_tokens, sequence.length - start);
    if (tokens < page_tokens && (entry.live >> tokens) != (all_live >> tokens)) return "the mask of tokens to come";
    for (int64_t t = 0; t < tokens && page >= coded_end; t++) {
        if ((entry.live >> t & 1) && !held->add(rule, start + t)) return "a token that is held twice";
    }
    return nullptr;
}

}  // namespace

std::string check_sequence(const Sequence& s, const std::vector<Layer>&, const PolicySpec& policy) {
    if (!within(s.first_position, 0, position_limit)) return "the first position";
    if (!within(s.length, 0, snapshot_length_limit)) return "the length";
    if (!within(s.prompt_end, 0, position_limit)) return "the prompt's end";
    if (!within(s.floor, 0, s.length)) return "the exact floor";
    if (!within(s.mass_queries, 0, counter_limit)) return "the number of queries";
    if (!within(s.context, 0, position_limit)) return "the context of the budget";
    return s.overdue && !policy ? "a policy's work without a policy" : "";
}

std::string check_state(const Sequence& sequence, const LayerPages& pages, const Layer& layer, const PolicySpec& policy) {
    const PageRule& rule = layer.rule;
    const PageState& state = pages.state;
    const int64_t full_pages = std::max<int64_t>(0, sequence.length - rule.sinks) / page_tokens;
    if (!within(state.coded_end, rule.first_fp16_page(sequence.length), full_pages)) return "the end of the coded pages";
    if (!within(state.first_coded, 0, state.coded_end)) return "the first coded page";
    if (!within(state.first_window, std::max<int64_t>(0, state.coded_end - rule.spare), state.coded_end))
        return "the first 16-bit page";
    const bool budgeted = policy && layer.policy_acts;
    if (!within(pages.budget, budgeted ? rule.sinks + 1 : 0, budgeted ? position_limit : 0)) return "the budget";
    if (!within(pages.recent, 0, pages.budget)) return "the number of recent tokens";
    const int64_t kept = budgeted && policy.is_closed_rule() ? pages.budget - rule.sinks : 0;
    return state.kept == kept ? "" : "the number of tokens kept by position";
}

std::string check_head(const Sequence& sequence, size_t layer, const HeadPages& head, const Layer& shape, const PolicySpec& policy,
                       std::span<const RecordDraft> records) {
    const PageRule& rule = shape.rule;
    const PageState& state = sequence.layers[layer].state;
    if ((head.sinks != 0) != (rule.sinks > 0 && sequence.length > 0)) return "the sinks";
    HeldTokens held(state.first_held(), rule.pages(sequence.length));
    for (size_t e = 0; e < head.coded.size(); e++) {
        const char* wrong = check_coded(sequence, head.coded[e], state.first_coded + int64_t(e), rule, records, &held);
        if (wrong) return wrong;
    }
    for (size_t e = 0; e < head.window.size(); e++) {
        const int64_t page = state.first_window + int64_t(e);
        const char* wrong = check_window(sequence, head.window[e], page, state.coded_end, rule, &held);
        if (wrong) return wrong;
    }
    if (int64_t(head.mass.size()) > sequence.length) return "mass of tokens to come";
    if (std::any_of(head.mass.begin(), head.mass.end(), [](int64_t m) { return !within(m, 0, counter_limit); })) return "mass";
    int64_t last = sequence.first_position - 1;
    for (const TokenCount& token : head.counts) {
        const bool known = within(token.position, last + 1, sequence.first_position + sequence.length - 1);
        if (!known || token.count < 2 || !(token.log_count >= 0 && token.log_count <= log_count_limit))
            return "tokens that stand for others";
        last = token.position;
    }
    const char* wrong = check_queries(head, shape, policy);
    return wrong ? wrong : "";
}

}  // namespace kvc
