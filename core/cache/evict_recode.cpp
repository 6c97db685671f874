// Repacking on a device: the host says which tokens come together, the device reads, codes and writes them.
#include <algorithm>

#include "core/cache/evict.h"

namespace kvc {
namespace {

// Which new pages read a source.
struct Readers {
    int64_t last = -1;   // the last such page
    int64_t round = -1;  // the latest round of those that have one
};

// Records of sources that are read by no page behind the one at hand.
class FreeSources {
public:
    void add(size_t entry, RecordId record) { free_.push_back({entry, record}); }

    // Of those that there are the one that was read earliest; takes an ownership of it. The new page's round comes behind its readers.
    void take(Arena& arena, const std::vector<Readers>& readers, RecordId* record, int64_t* round) {
        const auto earlier = [&](const Free& a, const Free& b) { return readers[a.entry].round < readers[b.entry].round; };
        const auto found = std::min_element(free_.begin(), free_.end(), earlier);
        if (found == free_.end()) return;
        arena.retain(found->record);
        *record = found->record;
        *round = std::max(*round, readers[found->entry].round + 1);
        free_.erase(found);
    }

private:
    struct Free {
        size_t entry;
        RecordId record;
    };
    std::vector<Free> free_;
};

// The sources of one new page, from `first` on in a list of all pages' that still grows.
struct PageSources {
    std::vector<RecodeSource>* all;
    size_t first;
    std::vector<size_t> entries;

    // The place of an entry among the page's sources; they are few, and tokens of one follow each other.
    template <class Describe>
    uint8_t place(size_t entry, const Describe& describe) {
        const auto found = std::find(entries.rbegin(), entries.rend(), entry);
        if (found != entries.rend()) return uint8_t(entries.rend() - found - 1);
        entries.push_back(entry);
        all->push_back(describe(entry));
        return uint8_t(entries.size() - 1);
    }
};

}  // namespace

// Whether a device makes the head's new pages.
bool Evictor::recodes(const HeadEviction& eviction) { return !eviction.repack.pages.empty() && eviction.repack.pages[0].bytes.empty(); }

// A new page may be written over a source that it reads itself, and behind those who read it over one of another page.
void Evictor::reuse_behind_readers(HeadEviction& eviction) {
    Arena& arena = *cache_.arena_;
    const std::vector<PageEntry>& coded = sequence_.layers[eviction.layer].heads[eviction.head].coded;
    const int record_class = repack_class(eviction);
    std::vector<RepackedPage>& pages = eviction.repack.pages;
    std::vector<Readers> readers(coded.size());
    for (size_t i = 0; i < pages.size(); i++) {
        for (const RepackedToken& token : pages[i].tokens)
            readers[token.entry].last = int64_t(i);
    }
    std::vector<size_t> sources = eviction.repack.sources;
    std::stable_sort(sources.begin(), sources.end(), [&](size_t a, size_t b) { return readers[a].last < readers[b].last; });
    FreeSources records, sides;
    auto source = sources.begin();
    for (size_t i = 0; i < pages.size(); i++) {
        for (; source != sources.end() && readers[*source].last == int64_t(i); source++) {
            const PageEntry& entry = coded[*source];
            if (!arena.shared(entry.record) && arena.class_of_record(entry.record) == record_class) records.add(*source, entry.record);
            if (entry.side && !arena.shared(entry.side)) sides.add(*source, entry.side);
        }
        pages[i].round = 0;
        records.take(arena, readers, &pages[i].record, &pages[i].round);
        sides.take(arena, readers, &pages[i].side, &pages[i].round);
        for (const RepackedToken& token : pages[i].tokens)
            readers[token.entry].round = std::max(readers[token.entry].round, pages[i].round);
    }
}

void Evictor::prepare_recodes() {
    const Arena& arena = *cache_.arena_;
    std::vector<size_t> first_source;
    for (const HeadEviction& eviction : heads_) {
        if (!recodes(eviction)) continue;
        const RepackInput input = repack_input(eviction, {});
        const auto describe = [&](size_t entry) {
            const PageEntry& held = input.coded[entry];
            return RecodeSource{&input.rung(input.rung_of(entry)), arena.data(held.record), held.side ? arena.data(held.side) : nullptr,
                                input.first_position + int64_t(entry) * page_tokens};
        };
        for (const RepackedPage& page : eviction.repack.pages) {
            PageSources sources = {&recode_sources_, recode_sources_.size(), {}};
            RecodeParams job = {&input.rung(eviction.repack.rung),
                                arena.data(page.record),
                                arena.data(page.side),
                                nullptr,
                                0,
                                {},
                                {},
                                true,
                                page.round};
            for (size_t t = 0; t < page_tokens; t++) {
                const RepackedToken& token = page.tokens[std::min(t, page.tokens.size() - 1)];
                job.page[t] = sources.place(token.entry, describe);
                job.slots[t] = uint8_t(token.slot);
            }
            job.n_sources = int64_t(sources.entries.size());
            first_source.push_back(sources.first);
            recodes_.push_back(job);
        }
    }
    for (size_t i = 0; i < recodes_.size(); i++)
        recodes_[i].sources = &recode_sources_[first_source[i]];
    const auto earlier = [](const RecodeParams& a, const RecodeParams& b) { return a.round < b.round; };
    std::stable_sort(recodes_.begin(), recodes_.end(), earlier);
}

// Where what leaves goes first, its numbers wait in host memory.
void Evictor::fill_on_host() {
    for (HeadEviction& eviction : heads_) {
        if (recodes(eviction)) fill_repack(repack_input(eviction, {}), &eviction.repack);
    }
}

}  // namespace kvc
