// Published sequences, found by their tokens.
//
// An entry is listed under one digest for each of its whole pages of 64 tokens: digest k stands for the salt and the first 64 k tokens.
// A prompt follows its own digests as far as any entry goes. Digests only lead to candidates: salt and tokens are compared before
// anything is a match, so that two texts of one digest cannot be taken for each other. Not thread-safe; the cache's lock guards it.
#pragma once
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/sha256.h"
#include "core/store/sequence.h"

namespace kvc {

struct PrefixKey {
    std::span<const int64_t> tokens;
    std::string_view salt;  // any bytes; entries of other salts are never seen
};

struct PrefixEntry {
    std::vector<int64_t> tokens;
    std::string salt;
    int64_t floor = 0;  // a hit holds at least so many tokens
    bool pinned = false;
    bool sealed = false;
    std::unique_ptr<Sequence> sequence;  // as long as the tokens; the index never looks into it

    int64_t length() const { return int64_t(tokens.size()); }

private:
    friend class PrefixIndex;
    uint64_t serial = 0;                     // order of publication
    std::vector<Digest> path;                // digest k: salt and the first 64 k tokens
    std::list<PrefixEntry>::iterator place;  // in the order of use
};

class PrefixIndex {
public:
    using Usable = std::function<bool(const PrefixEntry&)>;

    struct Match {
        PrefixEntry* entry = nullptr;  // none: a miss
        int64_t tokens = 0;            // L: what a sequence made from the entry may hold
        int64_t shared = 0;            // most tokens that the prompt shares with any usable entry, whether that may be cut there or not
    };

    // Tests cut the digests to few bits, so that they collide.
    explicit PrefixIndex(int digest_bits = 256) : digest_bits_(digest_bits) {}

    // The longest L = min(entry's length, tokens in common, tokens of the prompt - 1) that is not below the entry's floor; of several
    // entries the one published last.
    Match find(const PrefixKey& prompt, const Usable& usable) const;
    // The usable entry of exactly these tokens, or nullptr.
    PrefixEntry* find_same(const PrefixKey& key, const Usable& usable) const;
    // All entries whose tokens begin with the key's.
    std::vector<PrefixEntry*> find_below(const PrefixKey& key) const;

    // Adds an entry, as the one used last. Either all of it is listed or std::bad_alloc is thrown and nothing changed.
    PrefixEntry* insert(const PrefixKey& key, int64_t floor, bool pinned);
    void erase(PrefixEntry* entry);
    void touch(PrefixEntry* entry) { entries_.splice(entries_.end(), entries_, entry->place); }

    // The least recently used one first.
    std::list<PrefixEntry>& entries() { return entries_; }
    const std::list<PrefixEntry>& entries() const { return entries_; }
    int64_t tokens() const { return tokens_; }
    // Heap of keys and lists, without that of the sequences.
    int64_t host_bytes() const;

private:
    struct ByFloor {
        bool operator()(const PrefixEntry* a, const PrefixEntry* b) const {
            return a->floor != b->floor ? a->floor < b->floor : a->serial < b->serial;
        }
    };
    using Node = std::set<PrefixEntry*, ByFloor>;
    struct DigestHash {
        size_t operator()(const Digest& digest) const;
    };

    Digest root_of(std::string_view salt) const;
    Digest next(const Digest& digest, std::span<const int64_t> page) const;
    Digest cut_digest(Digest digest) const;
    std::vector<Digest> path_of(const PrefixKey& key) const;
    // The nodes that a key's pages lead to: [k] holds the entries that share 64 k tokens with it, if the digests can be trusted.
    std::vector<const Node*> follow(const PrefixKey& key) const;
    PrefixEntry* longest_at(const Node& node, int64_t page, const PrefixKey& prompt, bool cuttable, const Usable& usable,
                            int64_t* tokens) const;
    void unlist(PrefixEntry* entry);

    int digest_bits_;
    uint64_t serial_ = 0;
    int64_t tokens_ = 0;
    std::list<PrefixEntry> entries_;
    std::unordered_map<Digest, Node, DigestHash> nodes_;
};

}  // namespace kvc
