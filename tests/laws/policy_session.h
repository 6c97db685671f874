// What the laws of policies share: every policy of the list, and feeding that keeps to a policy's boundaries.
#pragma once

#include <algorithm>
#include <kvc.h>
#include <string>
#include <vector>

#include "tests/laws/session.h"

namespace kvc_laws {

inline const std::string policy_shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";

// Every policy that acts by itself, with a budget of so many tokens. Thinned: one by positions, one by mass, one by keys.
inline std::vector<std::string> policies(int64_t budget, const std::string& more = "") {
    std::vector<std::string> names = {"streaming", "h2o", "key_norm"}, all;
    if (!laws_are_thinned()) {
        names.clear();
        for (int64_t i = 0; i < kvc_policy_count(); ++i)
            if (std::string(kvc_policy_name(i)) != "given") names.emplace_back(kvc_policy_name(i));
    }
    for (const std::string& name : names)
        all.push_back(name + ":" + std::to_string(budget) + more);
    return all;
}

inline bool is_streaming(const std::string& policy) { return policy.starts_with("streaming"); }

// Tokens per head that a policy holds at one of its boundaries; streaming moves by whole pages.
inline int64_t held_at(const std::string& policy, int64_t budget, int64_t length) {
    if (length <= budget) return length;
    return is_streaming(policy) ? budget + (length - budget) % 64 : budget;
}

inline std::string head_words(const std::string& name, int layer, int head) {
    return name + " layer=" + std::to_string(layer) + " head=" + std::to_string(head);
}

inline std::vector<int64_t> positions_of(Session& session, const std::string& name, int layer = 0, int head = 0) {
    return session.ok("positions " + head_words(name, layer, head)).numbers;
}

// A number of bytes that was chosen for heads of 32, for those that there are kernels for.
inline int64_t bytes_for_heads(int64_t bytes) { return bytes * std::max<int64_t>(32, kvc_scripts::smallest_head_dim()) / 32; }

// Of a token of one head in 16 bits.
inline int64_t token_bytes(const Session& session) {
    const kvc_layer& layer = session.replay.shapes().layers[0];
    return (layer.k_dim + layer.v_dim) * 2;
}

inline int64_t step_limit(Session& session, const std::string& name) {
    int64_t limit = 0;
    REQUIRE(kvc_seq_step_limit(session.replay.cache(), session.replay.handle_of(name), &limit, nullptr) == KVC_OK);
    return limit;
}

// Feeds in steps of at most `chunk` tokens, cut where the policy wants.
inline Bytes feed(Session& session, const std::string& name, int64_t tokens, int64_t chunk) {
    Bytes all;
    while (tokens > 0) {
        const int64_t n = std::min({tokens, chunk, step_limit(session, name)});
        const Bytes out = session.step(name + ":" + std::to_string(n));
        all.insert(all.end(), out.begin(), out.end());
        tokens -= n;
    }
    return all;
}

inline kvc_status evict_by_policy(Session& session, const std::string& name) {
    return kvc_evict(session.replay.cache(), session.replay.handle_of(name), nullptr, 0, nullptr, nullptr, nullptr);
}

}  // namespace kvc_laws
