// New pages and rewritten ones on a device: the host says which tokens come together, the device reads, codes and writes them.
#include <algorithm>
#include <bit>

#include "core/base/size.h"
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

void RecodeList::add(RecodeParams job, const RepackInput& input, std::span<const RepackedToken> tokens) {
    const size_t first = sources.size();
    first_source_.push_back(first);
    first_fold_.push_back(folds.size());
    std::vector<size_t> entries;  // of the sources; they are few, and tokens of one follow each other
    for (size_t t = 0; t < page_tokens; t++) {
        const RepackedToken& token = tokens[std::min(t, tokens.size() - 1)];
        auto place = std::find(entries.begin(), entries.end(), token.entry);
        if (place == entries.end()) {
            const PageEntry& held = input.coded[token.entry];
            sources.push_back({&input.rung(input.rung_of(token.entry)), input.arena.data(held.record),
                               held.side ? input.arena.data(held.side) : nullptr,
                               input.first_position + int64_t(token.entry) * page_tokens});
            place = entries.insert(entries.end(), token.entry);
        }
        job.page[t] = uint8_t(place - entries.begin());
        job.slots[t] = uint8_t(token.slot);
        const auto same = [&](const FoldedToken& fold) {
            return fold.form == KernelTable::Form::codes && fold.entry == token.entry && fold.slot == token.slot;
        };
        const auto fold = std::find_if(input.folded.begin(), input.folded.end(), same);
        if (fold == input.folded.end()) continue;
        job.folded |= uint64_t{1} << t;
        folds.push_back({fold->new_key ? fold->row : nullptr, fold->row + input.format.k_dim});
    }
    job.n_sources = int64_t(entries.size());
    jobs.push_back(job);
}

void RecodeList::seal() {
    for (size_t i = 0; i < jobs.size(); i++) {
        jobs[i].sources = &sources[first_source_[i]];
        jobs[i].folds = folds.data() + first_fold_[i];
    }
    const auto earlier = [](const RecodeParams& a, const RecodeParams& b) { return a.round < b.round; };
    std::stable_sort(jobs.begin(), jobs.end(), earlier);
}

void Evictor::prepare_recodes() {
    const Arena& arena = *cache_.arena_;
    for (const HeadEviction& eviction : heads_) {
        if (!recodes(eviction)) continue;
        const RepackInput input = repack_input(eviction);
        for (const RepackedPage& page : eviction.repack.pages) {
            RecodeParams job = {&input.rung(eviction.repack.rung),
                                arena.data(page.record),
                                arena.data(page.side),
                                nullptr,
                                0,
                                {},
                                {},
                                true,
                                page.round};
            recodes_.add(job, input, page.tokens);
        }
    }
    recodes_.seal();
}

// Where what leaves goes first, its numbers wait in the device's memory, beside the arena; false if it has none for that.
bool Evictor::hold_recodes() {
    if (!cache_.device_) return false;
    constexpr int64_t alignment = 256;
    Size bytes = 0;
    for (const HeadEviction& eviction : heads_) {
        if (!recodes(eviction)) continue;
        const int64_t record_bytes = cache_.arena_->record_bytes(repack_class(eviction));
        bytes = bytes + Size(int64_t(eviction.repack.pages.size())) * round_up(record_bytes, alignment);
    }
    if (bytes.value() == 0) return true;
    std::byte* at = blocks_.add(bytes.value());
    if (!at) return false;
    for (HeadEviction& eviction : heads_) {
        if (!recodes(eviction)) continue;
        const RepackInput input = repack_input(eviction);
        for (RepackedPage& page : eviction.repack.pages) {
            RecodeParams job = {&input.rung(eviction.repack.rung), at, nullptr, nullptr, 0, {}, {}, true, 0};
            recodes_.add(job, input, page.tokens);
            page.held = at;
            at += round_up(cache_.arena_->record_bytes(repack_class(eviction)), alignment);
        }
    }
    recodes_.seal();
    return true;
}

// They wait in host memory where there is no device, or it has no memory for them: then means come to the host, too.
void Evictor::fill_on_host() {
    for (HeadEviction& eviction : heads_) {
        if (!recodes(eviction)) continue;
        const LayerFormat& format = cache_.layers_[eviction.layer].format;
        for (FoldedToken& token : eviction.folded) {
            const auto fetch = [&](const float* from, int dim, std::vector<float>* to) {
                to->resize(size_t(dim));
                cache_.arena_->fetch_numbers(from, *to);
            };
            fetch(token.row, format.k_dim, &token.k);
            fetch(token.row + format.k_dim, format.v_dim, &token.v);
        }
        fill_repack(repack_input(eviction), &eviction.repack);
    }
}

// Calls visit(eviction, rewrite, whether it is a page of codes that is coded once more).
template <class Visit>
void Evictor::each_rewrite(const Visit& visit) {
    for (HeadEviction& eviction : heads_) {
        for (PageRewrite& rewrite : eviction.rewrites) {
            const LayerFormat& format = cache_.format_of(eviction.layer, rewrite.form, record_of(eviction, rewrite));
            visit(eviction, rewrite, rewrite.form == KernelTable::Form::codes && !format.lossless);
        }
    }
}

// All but the records, which are known once nothing can fail any more.
void Evictor::prepare_rewrites() {
    each_rewrite([&](HeadEviction& eviction, PageRewrite& rewrite, bool coded) {
        const RepackInput input = repack_input(eviction);
        const LayerFormat& format = cache_.format_of(eviction.layer, rewrite.form, record_of(eviction, rewrite));
        bool new_keys = false;
        for (const FoldedToken& token : eviction.folded) {
            if (token.form != rewrite.form || token.entry != rewrite.entry) continue;
            new_keys |= token.new_key;
            if (coded) continue;
            stores_.push_back({&input.format, token.row, token.row + format.k_dim, Dtype::f32, format.k_dim, format.v_dim, 1, nullptr,
                               token.form == KernelTable::Form::sinks, token.slot, true});
        }
        if (!coded) return;
        RecodeParams job = {&format, nullptr, nullptr, nullptr, 0, {}, {}, true, 0};
        job.keeps_keys = !new_keys;
        rewrites_.add(job, input, page_of_live(rewrite.entry, eviction.live[rewrite.entry]));
    });
    rewrites_.seal();
}

// A page that others share becomes a copy. Pages of codes are made out of what is held, rows are changed where they lie.
void Evictor::make_rewrites() {
    Arena& arena = *cache_.arena_;
    size_t job = 0, store = 0;
    each_rewrite([&](HeadEviction& eviction, PageRewrite& rewrite, bool coded) {
        if (!rewrite.record) (void)acquire_rewrite(eviction, &rewrite);  // exchange() saw to the room
        if (!cache_.device_) return;
        const RecordId held = record_of(eviction, rewrite);
        if (coded) {
            rewrites_.sources[job].record = arena.data(held);
            rewrites_.jobs[job++].record = arena.data(rewrite.record);
            return;
        }
        if (rewrite.record != held) arena.copy(held, rewrite.record);
        for (const FoldedToken& token : eviction.folded) {
            if (token.form == rewrite.form && token.entry == rewrite.entry) stores_[store++].record = arena.data(rewrite.record);
        }
    });
    if (!rewrites_.jobs.empty()) arena.recode(rewrites_.jobs);
    if (!stores_.empty()) arena.store(stores_);
}

}  // namespace kvc
