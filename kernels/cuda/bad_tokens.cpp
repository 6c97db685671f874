#include "kernels/cuda/bad_tokens.h"

#include <algorithm>
#include <cstring>

namespace kvc::cuda {
namespace {

constexpr uint64_t none = ~uint64_t{0};

}  // namespace

BadTokens::~BadTokens() {
    if (fetched_) {
        runtime::destroy_event(fetched_);
    }
}

Status BadTokens::create(int64_t most_tags, HeapSource heap) {
    const int64_t bytes = most_tags * int64_t(sizeof(uint64_t));
    KVC_TRY(words_.allocate("what stores find", bytes, heap));
    KVC_TRY(arrived_.allocate("what stores find (pinned memory of the host)", bytes));
    const Result<Event> event = runtime::create_event();
    if (!event.ok()) {
        return event.status();
    }
    fetched_ = *event;
    tags_.reserve(size_t(most_tags));
    reported_.reserve(size_t(most_tags));
    return {};
}

Status BadTokens::reset(Stream stream) {
    tags_.clear();
    reported_.clear();
    next_ = 0;
    return words_.bytes() > 0 ? runtime::fill(words_.data(), 0xff, words_.bytes(), stream) : Status{};
}

Result<unsigned long long*> BadTokens::word_of(int64_t tag) {
    for (size_t i = 0; i < 2 && !tags_.empty(); i++) {
        const size_t at = (next_ + i) % tags_.size();
        if (tags_[at] == tag) {
            next_ = at;
            return reinterpret_cast<unsigned long long*>(words_.data()) + at;
        }
    }
    const auto found = std::find(tags_.begin(), tags_.end(), tag);
    next_ = size_t(found - tags_.begin());
    if (found == tags_.end()) {
        if (int64_t(tags_.size()) == most_tags()) {
            return fail(Code::internal, "CUDA: more tags of stores than jobs that begin was told of");
        }
        tags_.push_back(tag);
        reported_.push_back(none);
    }
    return reinterpret_cast<unsigned long long*>(words_.data()) + next_;
}

Status BadTokens::fetch(Stream stream) {
    const int64_t bytes = int64_t(tags_.size() * sizeof(uint64_t));
    if (bytes > 0) {
        KVC_TRY(runtime::copy_out(arrived_.data(), words_.data(), bytes, stream));
    }
    return runtime::record(fetched_, stream);
}

void BadTokens::report(std::vector<BadStore>* bad) {
    for (size_t i = 0; i < tags_.size(); i++) {
        uint64_t word = none;
        std::memcpy(&word, arrived_.data() + i * sizeof word, sizeof word);
        if (word < reported_[i]) {
            reported_[i] = word;
            bad->push_back({tags_[i], int64_t(word)});
        }
    }
}

}  // namespace kvc::cuda
