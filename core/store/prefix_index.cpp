#include "core/store/prefix_index.h"

#include <algorithm>
#include <cstring>

#include "core/base/capacity.h"
#include "core/base/size.h"

namespace kvc {
namespace {

// What is hashed begins with one of these, so that no salt can pass for a page.
constexpr std::string_view salt_domain = "kvc prefix salt 1\n", page_domain = "kvc prefix page 1\n";

void add_little_endian(Sha256* hash, int64_t number) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = uint8_t(uint64_t(number) >> (8 * i));
    hash->add(bytes, sizeof bytes);
}

// Whether the entry has the salt and the first n tokens of the key.
bool begins_alike(const PrefixEntry& entry, const PrefixKey& key, int64_t n) {
    return entry.salt == key.salt && n <= entry.length() && n <= int64_t(key.tokens.size()) &&
           std::equal(key.tokens.begin(), key.tokens.begin() + n, entry.tokens.begin());
}

}  // namespace

size_t PrefixIndex::DigestHash::operator()(const Digest& digest) const {
    size_t hash;
    std::memcpy(&hash, digest.data(), sizeof hash);
    return hash;
}

Digest PrefixIndex::cut_digest(Digest digest) const {
    for (int bit = digest_bits_; bit < 256; bit++)
        digest[size_t(bit / 8)] &= uint8_t(~(0x80 >> bit % 8));
    return digest;
}

Digest PrefixIndex::root_of(std::string_view salt) const {
    Sha256 hash;
    hash.add(salt_domain.data(), salt_domain.size());
    hash.add(salt.data(), salt.size());
    return cut_digest(hash.finish());
}

Digest PrefixIndex::next(const Digest& digest, std::span<const int64_t> page) const {
    Sha256 hash;
    hash.add(page_domain.data(), page_domain.size());
    hash.add(digest.data(), digest.size());
    for (int64_t token : page)
        add_little_endian(&hash, token);
    return cut_digest(hash.finish());
}

std::vector<Digest> PrefixIndex::path_of(const PrefixKey& key) const {
    std::vector<Digest> path = {root_of(key.salt)};
    for (size_t begin = 0; begin + page_tokens <= key.tokens.size(); begin += page_tokens)
        path.push_back(next(path.back(), key.tokens.subspan(begin, page_tokens)));
    return path;
}

// Hashes no page beyond the first that nobody has published: the work and the memory depend on what is held, not on what is asked.
std::vector<const PrefixIndex::Node*> PrefixIndex::follow(const PrefixKey& key) const {
    std::vector<const Node*> nodes;
    Digest digest = root_of(key.salt);
    for (size_t begin = 0;; begin += page_tokens) {
        const auto found = nodes_.find(digest);
        if (found == nodes_.end()) return nodes;
        nodes.push_back(&found->second);
        if (key.tokens.size() - begin < page_tokens) return nodes;
        digest = next(digest, key.tokens.subspan(begin, page_tokens));
    }
}

// The entry of a node that gives the most tokens, which lie in this page if they are more than the pages before it. `cuttable`: as L
// of a hit, otherwise whatever is shared.
PrefixEntry* PrefixIndex::longest_at(const Node& node, int64_t page, const PrefixKey& prompt, bool cuttable, const Usable& usable,
                                     int64_t* tokens) const {
    const int64_t begin = page * page_tokens, asked = int64_t(prompt.tokens.size());
    const int64_t most = std::min(begin + page_tokens, cuttable ? asked - 1 : asked);
    std::vector<std::pair<int64_t, PrefixEntry*>> candidates;
    for (PrefixEntry* entry : node) {
        if (cuttable && entry->floor > most) break;  // the node is ordered by floors
        const int64_t end = std::min(begin + page_tokens, std::min(asked, entry->length()));
        if (end < begin || !usable(*entry)) continue;
        const auto differs = std::mismatch(prompt.tokens.begin() + begin, prompt.tokens.begin() + end, entry->tokens.begin() + begin);
        const int64_t shared = std::min<int64_t>(differs.first - prompt.tokens.begin(), most);
        if (!cuttable || shared >= entry->floor) candidates.emplace_back(shared, entry);
    }
    std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second->serial > b.second->serial;
    });
    for (const auto& [shared, entry] : candidates) {
        if (!begins_alike(*entry, prompt, shared)) continue;  // only its digest is the same
        *tokens = shared;
        return entry;
    }
    return nullptr;
}

// The deepest node with an answer has the longest: who shares more than its page is listed deeper, too, but for entries whose floor
// lies higher still.
PrefixIndex::Match PrefixIndex::find(const PrefixKey& prompt, const Usable& usable) const {
    Match match;
    if (prompt.tokens.empty()) return match;
    const std::vector<const Node*> nodes = follow(prompt);
    const auto deepest = [&](bool cuttable, int64_t* tokens) {
        PrefixEntry* entry = nullptr;
        for (size_t k = nodes.size(); k-- > 0 && !entry;)
            entry = longest_at(*nodes[k], int64_t(k), prompt, cuttable, usable, tokens);
        return entry;
    };
    (void)deepest(false, &match.shared);
    match.entry = deepest(true, &match.tokens);
    if (match.tokens == 0) match.entry = nullptr;
    return match;
}

PrefixEntry* PrefixIndex::find_same(const PrefixKey& key, const Usable& usable) const {
    for (PrefixEntry* entry : find_below(key)) {
        if (entry->length() == int64_t(key.tokens.size()) && usable(*entry)) return entry;
    }
    return nullptr;
}

std::vector<PrefixEntry*> PrefixIndex::find_below(const PrefixKey& key) const {
    const std::vector<const Node*> nodes = follow(key);
    std::vector<PrefixEntry*> found;
    if (nodes.size() < key.tokens.size() / page_tokens + 1) return found;
    for (PrefixEntry* entry : *nodes.back()) {
        if (begins_alike(*entry, key, int64_t(key.tokens.size()))) found.push_back(entry);
    }
    return found;
}

PrefixEntry* PrefixIndex::insert(const PrefixKey& key, int64_t floor, bool pinned) {
    std::list<PrefixEntry> made(1);
    PrefixEntry* const entry = &made.front();
    entry->tokens.assign(key.tokens.begin(), key.tokens.end());
    entry->salt = key.salt;
    entry->floor = floor;
    entry->pinned = pinned;
    entry->serial = ++serial_;
    entry->path = path_of(key);
    entry->place = made.begin();
    try {
        for (const Digest& digest : entry->path)
            nodes_[digest].insert(entry);
    } catch (...) {
        unlist(entry);
        throw;
    }
    entries_.splice(entries_.end(), made);
    tokens_ += entry->length();
    return entry;
}

void PrefixIndex::unlist(PrefixEntry* entry) {
    for (const Digest& digest : entry->path) {
        const auto node = nodes_.find(digest);
        if (node == nodes_.end()) continue;
        node->second.erase(entry);
        if (node->second.empty()) nodes_.erase(node);
    }
}

void PrefixIndex::erase(PrefixEntry* entry) {
    unlist(entry);
    tokens_ -= entry->length();
    entries_.erase(entry->place);
}

int64_t PrefixIndex::host_bytes() const {
    // Nodes of the containers: their links beside what they hold.
    constexpr int64_t entry_cost = int64_t(2 * sizeof(void*) + sizeof(PrefixEntry));
    constexpr int64_t place_cost = int64_t(4 * sizeof(void*) + sizeof(PrefixEntry*));
    constexpr int64_t digest_cost = int64_t(2 * sizeof(void*) + sizeof(Digest) + sizeof(Node));
    int64_t bytes =
        (Size(int64_t(nodes_.size())) * digest_cost + Size(int64_t(nodes_.bucket_count())) * int64_t(sizeof(void*))).value();
    for (const PrefixEntry& entry : entries_) {
        bytes += entry_cost + capacity_bytes(entry.tokens) + capacity_bytes(entry.path);
        bytes += (Size(int64_t(entry.path.size())) * place_cost).value();
        if (entry.salt.capacity() >= sizeof(std::string) / 2) bytes += int64_t(entry.salt.capacity() + 1);
    }
    return bytes;
}

}  // namespace kvc
