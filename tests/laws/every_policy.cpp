// The laws of eviction, all at once: every policy of the list with every codec, at every boundary length, forked there. The budget is
// kept, sinks and newest tokens stay, code records stay within their bound and their bytes are the arena's, nothing depends on steps or
// threads, and what a fork holds never changes.
#include <set>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

constexpr int64_t budget = 160, sinks = 4, window = 10;

// Every policy as it comes; competing heads and merging with one that looks at mass and one that does not; mass of the last queries and by
// pages; and scores of the caller, at boundaries where others would act.
std::vector<std::string> policies_and_variants() {
    std::vector<std::string> all = policies(budget);
    for (const std::string& name : {std::string("h2o"), std::string("key_norm")})
        for (const char* more : {",heads=ada", ",layers=5/3", ",merge=keys+values,merge_threshold=none"})
            all.push_back(name + ":" + std::to_string(budget) + more);
    for (const std::string& name : {std::string("h2o"), std::string("mean_attention")})
        for (const char* more : {",mass=observed", ",mass=page"})
            all.push_back(name + ":" + std::to_string(budget) + more);
    all.push_back("given:" + std::to_string(budget) + ",every=never,recent=50%");
    return all;
}

// Feeds up to a length; at each boundary beyond the budget on the way the caller brings scores, if it is they that decide.
void feed_to(Session& session, const std::string& policy, int64_t length, int64_t chunk) {
    for (int64_t now = session.number("length a"); now < length;) {
        const int64_t next = std::min(length, (now / 64 + 1) * 64);
        feed(session, "a", next - now, chunk);
        now = next;
        if (policy.starts_with("given") && now % 64 == 0 && now > budget) session.ok("evict a scores=" + std::to_string(now));
    }
}

bool competes(const std::string& policy) { return policy.find("heads=ada") != std::string::npos; }

int64_t budget_of(const std::string& policy, int layer) {
    return policy.find("layers=5/3") == std::string::npos ? budget : layer == 0 ? 200 : 120;
}

// Tokens per head of a layer, on average over its heads: a score acts at the last multiple of 64, a rule of positions drops whole pages.
int64_t held(const std::string& policy, int layer, int64_t length) {
    const int64_t limit = budget_of(policy, layer), boundary = is_streaming(policy) ? length : length / 64 * 64;
    return held_at(policy, limit, boundary) + length - boundary;
}

void check_kept(Session& session, const std::string& policy, int64_t length) {
    for (int layer = 0; layer < 2; ++layer) {
        int64_t sum = 0;
        for (int head = 0; head < 2; ++head) {
            const std::vector<int64_t> kept = positions_of(session, "a", layer, head);
            const auto size = static_cast<int64_t>(kept.size());
            if (!competes(policy)) CHECK(size == held(policy, layer, length));
            sum += size;
            const std::set<int64_t> set(kept.begin(), kept.end());
            CHECK(set.size() == kept.size());
            const int64_t newest = is_streaming(policy) ? budget - sinks : budget_of(policy, layer) / 2;
            int64_t missing = 0;
            for (int64_t j = 0; j < length; ++j)
                missing += (j < sinks || j >= length / 64 * 64 - newest) && set.count(j) == 0;
            CHECK(missing == 0);
        }
        CHECK(sum == 2 * held(policy, layer, length));
    }
}

// Records of pages behind the window: of codes at most what twice the live tokens of a head need, of 16-bit numbers what nine eighths of
// them do. The arena's bytes are those of the records.
void check_records(Session& session, bool lossless, int64_t length, int64_t* record_bytes) {
    const int64_t bytes = session.stats()[5], page_bytes = 64 * token_bytes(session);
    int64_t records = 0, most = 0;
    for (int layer = 0; layer < 2; ++layer)
        for (int head = 0; head < 2; ++head) {
            const std::string words = head_words("a", layer, head);
            const int64_t live = session.number("live " + words);
            most += (9 * live + 511) / 512;
            if (lossless) continue;
            const int64_t uncoded = length - 64 * std::max<int64_t>(0, (length - sinks - window) / 64);
            const int64_t own = session.number("codes " + words) / 64;
            CHECK(own <= (2 * (live - uncoded) + 63) / 64);
            records += own;
        }
    if (records > 0 && *record_bytes == 0) *record_bytes = bytes / records;
    if (lossless) {
        CHECK(bytes % page_bytes == 0);
        CHECK(bytes / page_bytes <= most);
    } else {
        CHECK(bytes == records * *record_bytes);
    }
}

}  // namespace

TEST_CASE("every policy, every codec, every boundary length: budgets, protection, records, forks and cuts") {
    std::vector<std::string> codecs = presets();
    if (laws_are_thinned()) codecs = {codecs.front(), codecs.back()};
    for (const std::string& preset : codecs)
        for (const std::string& policy : policies_and_variants()) {
            CAPTURE(preset);
            CAPTURE(policy);
            const bool lossless = preset == "fp16" || preset == "bf16";
            const std::string create = policy_shape + short_window(preset, window, sinks) + " policy=" + policy;
            Session session(create), pieces(create, {"", 2});
            for (Session* each : {&session, &pieces})
                each->ok("seq a data=3");
            int64_t record_bytes = 0;
            Bytes forked;
            for (const int64_t length : {0, 1, 3, 4, 5, 63, 64, 65, 77, 78, 79, 128, 159, 160, 161, 191, 192, 193, 256, 320, 321}) {
                CAPTURE(length);
                feed_to(session, policy, length, 64);
                feed_to(pieces, policy, length, 23);
                if (!forked.empty()) {
                    CHECK(session.stored("fork") == forked);
                    session.ok("destroy fork");
                }
                check_kept(session, policy, length);
                check_records(session, lossless, length, &record_bytes);
                const Bytes now = session.stored("a");
                CHECK(pieces.stored("a") == now);
                session.ok("fork fork a length=" + std::to_string(length));
                forked = session.stored("fork");
                CHECK(forked == now);
            }
        }
}
