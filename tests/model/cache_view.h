// What a cache that a script runs on says of itself, for choosing operations that mostly make sense.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "tests/model/replay.h"

namespace kvc_scripts {

class CacheView {
protected:
    int64_t length_of(const std::string& name) const {
        int64_t length = 0;
        kvc_seq_length(replay_->cache(), replay_->handle_of(name), &length, nullptr);
        return length;
    }
    int64_t tokens_of(const std::string& name) const { return std::max<int64_t>(0, length_of(name) - replay_->first_position(name)); }
    int64_t limit_of(const std::string& name) const {
        int64_t limit = 0;
        kvc_seq_step_limit(replay_->cache(), replay_->handle_of(name), &limit, nullptr);
        return limit;
    }
    int64_t floor_of(const std::string& name) const {
        int64_t floor = 0;
        kvc_seq_exact_floor(replay_->cache(), replay_->handle_of(name), &floor, nullptr);
        return floor;
    }

    std::string policy() const { return replay_->shapes().options.policy; }
    // The residual window, about: presets have 128 and 64.
    int64_t window() const {
        const std::string codec = replay_->shapes().options.codec;
        const size_t at = codec.find("window=");
        return at == std::string::npos ? 128 : std::stoll(codec.substr(at + 7));
    }
    bool has_ladder() const { return std::string(replay_->shapes().options.codec).find('/') != std::string::npos; }
    int64_t record_bytes_of(const std::string& name) const {
        kvc_seq_stats stats{};
        stats.struct_size = sizeof stats;
        kvc_seq_stats_get(replay_->cache(), replay_->handle_of(name), &stats, nullptr);
        return stats.record_bytes;
    }

    std::unique_ptr<Replay> replay_;
};

}  // namespace kvc_scripts
