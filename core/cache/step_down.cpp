#include "core/cache/step_down.h"

#include <algorithm>
#include <bit>
#include <tuple>

namespace kvc {

StepDown::~StepDown() { release_acquired(); }

void StepDown::release_acquired() {
    for (Change& change : changes_) {
        if (change.record) cache_.arena_->release(change.record);
        change.record = 0;
    }
}

Status StepDown::check(StepDownRequest* request) const {
    const int64_t layers = int64_t(cache_.layers_.size());
    if (request->layer_begin == 0 && request->layer_end == 0) request->layer_end = layers;
    if (request->layer_begin < 0 || request->layer_begin >= request->layer_end || request->layer_end > layers) {
        return fail(Code::argument, "step_down: layer_begin ", request->layer_begin, " and layer_end ", request->layer_end,
                    " are no range of layers (layers = ", layers, ")");
    }
    int64_t lowest = 0;
    for (int64_t i = request->layer_begin; i < request->layer_end; i++)
        lowest = std::max(lowest, cache_.layers_[size_t(i)].rungs() - 1);
    if (lowest == 0) {
        return fail(Code::unsupported, "step_down: the codecs of layers ", request->layer_begin, " .. ", request->layer_end - 1,
                    " name no lower rungs (such as int8/int4)");
    }
    if (request->rung < 0 || request->rung > lowest)
        return fail(Code::argument, "step_down: rung ", request->rung, " is out of range (1 .. ", lowest, ", or 0 for the lowest)");
    if (request->rung == 0) request->rung = lowest;
    if (request->recent < 0) return fail(Code::argument, "step_down: recent ", request->recent, " is negative");
    if (request->budget_bytes < 0) return fail(Code::argument, "step_down: budget_bytes ", request->budget_bytes, " is negative");
    return {};
}

int64_t StepDown::newest_index(const PageEntry& entry, int64_t page_start) const {
    int64_t newest = page_start;
    for (int64_t t = 0; t < page_tokens; t++) {
        if (entry.live >> t & 1) newest = std::max(newest, cache_.token_index(sequence_, entry, page_start, t));
    }
    return newest;
}

double StepDown::value_of(const HeadPages& head, const PageEntry& entry, int64_t page_start) const {
    if (head.mass.empty() || entry.live == 0) return 0;
    double sum = 0;
    for (int64_t t = 0; t < page_tokens; t++) {
        if (!(entry.live >> t & 1)) continue;
        const int64_t index = cache_.token_index(sequence_, entry, page_start, t);
        if (index < int64_t(head.mass.size())) sum += double(head.mass[size_t(index)]);
    }
    return sum / std::popcount(entry.live);
}

// Pages that may be stepped down, the least valuable first: those with the least attention mass, where mass is kept; then the oldest.
// `rung` is where they are now.
std::vector<StepDown::Change> StepDown::candidates(const StepDownRequest& request) const {
    std::vector<Change> pages;
    for (size_t i = size_t(request.layer_begin); i < size_t(request.layer_end); i++) {
        const Layer& layer = cache_.layers_[i];
        if (layer.rungs() == 1) continue;
        const LayerPages& tables = sequence_.layers[i];
        for (size_t h = 0; h < tables.heads.size(); h++) {
            const HeadPages& head = tables.heads[h];
            for (size_t e = 0; e < head.coded.size(); e++) {
                const PageEntry& entry = head.coded[e];
                if (!entry.record) continue;
                const int64_t page = tables.state.first_coded + int64_t(e), start = layer.rule.page_start(page);
                // Of a 16-bit codec the window's pages are among these where a cut left gathered tokens: they stay.
                if (layer.rule.lossless && page >= layer.rule.first_fp16_page(sequence_.length)) break;
                if (newest_index(entry, start) >= sequence_.length - request.recent) continue;
                pages.push_back({i, h, e, cache_.rung_of(i, entry.record), value_of(head, entry, start)});
            }
        }
    }
    const auto order = [&](const Change& page) {
        const int64_t place = sequence_.layers[page.layer].state.first_coded + int64_t(page.entry);
        return std::make_tuple(page.value, place, page.layer, page.head);
    };
    std::sort(pages.begin(), pages.end(), [&](const Change& a, const Change& b) { return order(a) < order(b); });
    return pages;
}

// Rung by rung, so that no page takes the third form before all others took the second.
Status StepDown::fill_budget(const StepDownRequest& request, std::vector<Change> pages) {
    int64_t bytes = cache_.record_bytes(sequence_);
    std::vector<bool> lowered(pages.size());
    for (int64_t rung = 1; rung <= request.rung && bytes > request.budget_bytes; rung++) {
        for (size_t i = 0; i < pages.size() && bytes > request.budget_bytes; i++) {
            if (pages[i].rung >= rung || rung >= cache_.layers_[pages[i].layer].rungs()) continue;
            bytes -= bytes_at(pages[i], pages[i].rung) - bytes_at(pages[i], rung);
            pages[i].rung = rung;
            lowered[i] = true;
        }
    }
    if (bytes > request.budget_bytes) {
        return fail(Code::argument, "step_down: budget_bytes ", request.budget_bytes, " is below the ", bytes,
                    " that the sequence takes with all these pages at rung ", request.rung);
    }
    for (size_t i = 0; i < pages.size(); i++) {
        if (lowered[i]) changes_.push_back(pages[i]);
    }
    return {};
}

Status StepDown::plan(const StepDownRequest& given) {
    StepDownRequest request = given;
    KVC_TRY(check(&request));
    std::vector<Change> pages = candidates(request);
    if (request.budget_bytes > 0) return fill_budget(request, std::move(pages));
    for (Change& page : pages) {
        const int64_t target = std::min(request.rung, cache_.layers_[page.layer].rungs() - 1);
        if (page.rung >= target) continue;
        page.rung = target;
        changes_.push_back(page);
    }
    return {};
}

void StepDown::plan_ages(int64_t boundary) {
    for (size_t i = 0; i < cache_.layers_.size(); i++) {
        const Layer& layer = cache_.layers_[i];
        const LayerPages& tables = sequence_.layers[i];
        for (int64_t rung = layer.rungs() - 1; rung > 0; rung--) {
            // Pages that an older rung takes were seen before.
            int64_t older = 0;
            for (int64_t r = rung + 1; r < layer.rungs(); r++)
                older = std::max(older, pages_of_age(layer, r, boundary));
            const int64_t end = std::min(pages_of_age(layer, rung, boundary), tables.state.coded_end);
            for (int64_t page = std::max(older, tables.state.first_coded); page < end; page++) {
                const size_t e = size_t(page - tables.state.first_coded);
                for (size_t h = 0; h < tables.heads.size(); h++) {
                    const RecordId record = tables.heads[h].coded[e].record;
                    if (record && cache_.rung_of(i, record) < rung) changes_.push_back({i, h, e, rung, 0});
                }
            }
        }
    }
}

// Codes are made of the numbers that the page stands for now, rounded to 16 bits as in a window.
void StepDown::encode(const Change& change, std::byte* out) {
    const Layer& layer = cache_.layers_[change.layer];
    const PageEntry& entry = entry_of(change);
    const LayerFormat& to = layer.rung(change.rung);
    const int64_t from = cache_.rung_of(change.layer, entry.record);
    const std::byte* const record = cache_.arena_->fetch(entry.record, room_);
    if (from == 0 && layer.rule.lossless && entry.live == all_live) {
        cache_.kernels_->quantize({&to, record, out});
        return;
    }
    k_.resize(size_t(page_tokens * to.k_dim)), v_.resize(size_t(page_tokens * to.v_dim));
    window_.resize(size_t(to.window_bytes));
    cache_.kernels_->read(layer.rung(from), KernelTable::Form::codes, record, k_.data(), v_.data());
    // Slots of dead tokens repeat a live one, so that they widen no group's range.
    const int64_t some = entry.live ? std::countr_zero(entry.live) : 0;
    for (int64_t t = 0; t < page_tokens; t++) {
        if (entry.live >> t & 1 || t == some) continue;
        std::copy_n(&k_[size_t(some * to.k_dim)], to.k_dim, &k_[size_t(t * to.k_dim)]);
        std::copy_n(&v_[size_t(some * to.v_dim)], to.v_dim, &v_[size_t(t * to.v_dim)]);
    }
    LayerFormat as_stored = to;  // the numbers are in the stored basis already
    as_stored.codec.k.rotate = as_stored.codec.v.rotate = false;
    const StoreParams store = {&as_stored,  k_.data(),      v_.data(), Dtype::f32, to.k_dim, to.v_dim,
                               page_tokens, window_.data(), false,     0,          true};
    (void)cache_.kernels_->store(store);
    cache_.kernels_->quantize({&to, window_.data(), out});
}

// What encode() does, to such places of each change's codes, which nobody reads before.
void StepDown::recode_on_device(std::span<std::byte* const> to) {
    Arena& arena = *cache_.arena_;
    std::vector<RecodeSource> sources;
    sources.reserve(changes_.size());
    std::vector<RecodeParams> jobs;
    for (const Change& change : changes_) {
        const Layer& layer = cache_.layers_[change.layer];
        const PageEntry& entry = entry_of(change);
        sources.push_back({&layer.rung(cache_.rung_of(change.layer, entry.record)), arena.data(entry.record), nullptr, 0});
        RecodeParams job = {&layer.rung(change.rung), to[jobs.size()], nullptr, &sources.back(), 1, {}, {}, false, 0};
        // Slots of dead tokens repeat a live one, so that they widen no group's range.
        const int some = entry.live ? std::countr_zero(entry.live) : 0;
        for (int t = 0; t < page_tokens; t++)
            job.slots[t] = uint8_t(entry.live >> t & 1 ? t : some);
        jobs.push_back(job);
    }
    arena.recode(jobs);
}

std::vector<int64_t> StepDown::needs() const {
    std::vector<int64_t> needs(cache_.arena_->class_count());
    for (const Change& change : changes_)
        needs[size_t(cache_.arena_->class_of(bytes_at(change, change.rung)))]++;
    return needs;
}

bool StepDown::acquire() {
    for (Change& change : changes_) {
        change.record = cache_.arena_->allocate(cache_.arena_->class_of(bytes_at(change, change.rung)));
        if (!change.record) return false;
    }
    if (cache_.device_) {
        std::vector<std::byte*> to;
        for (const Change& change : changes_)
            to.push_back(cache_.arena_->data(change.record));
        recode_on_device(to);
        return true;
    }
    std::vector<std::byte> codes;
    for (const Change& change : changes_) {
        codes.resize(size_t(bytes_at(change, change.rung)));
        encode(change, codes.data());
        cache_.arena_->put(change.record, codes.data());
    }
    return true;
}

ArenaForecast StepDown::without_old() const {
    ArenaForecast forecast(*cache_.arena_, false);
    for (const Change& change : changes_)
        forecast.release(entry_of(change).record);
    return forecast;
}

// Whether the device has memory for all new codes, and then makes them there.
bool StepDown::hold_on_device(int64_t total) {
    std::byte* at = cache_.device_ ? blocks_.add(total) : nullptr;
    if (!at) return false;
    std::vector<std::byte*> to;
    for (Change& change : changes_) {
        change.held = at;
        to.push_back(at);
        at += bytes_at(change, change.rung);
    }
    recode_on_device(to);
    return true;
}

// What the host may refuse comes first: the codes, the forecast, and the tables of slabs that change their record size.
bool StepDown::swap_in_place() {
    Arena& arena = *cache_.arena_;
    int64_t total = 0;
    for (const Change& change : changes_)
        total += bytes_at(change, change.rung);
    const std::vector<int64_t> needed = needs();
    if (!without_old().fits(needed)) return false;
    const bool held = hold_on_device(total);
    std::vector<std::byte> codes(held ? 0 : size_t(total));
    int64_t at = 0;
    for (const Change& change : changes_) {
        if (held) break;
        encode(change, codes.data() + at);
        at += bytes_at(change, change.rung);
    }
    for (size_t c = 0; c < needed.size(); c++) {
        if (needed[c] > 0) arena.prepare_binding(int(c));
    }
    for (const Change& change : changes_)
        arena.release(entry_of(change).record);
    at = 0;
    for (Change& change : changes_) {
        const int64_t bytes = bytes_at(change, change.rung);
        change.record = arena.allocate(arena.class_of(bytes));
        if (held) {
            arena.put_from(change.record, change.held);
        } else {
            arena.put(change.record, codes.data() + at);
        }
        entry_of(change).record = 0;  // apply() has nothing to release
        at += bytes;
    }
    return true;
}

StepDownReport StepDown::apply() {
    StepDownReport report;
    for (Change& change : changes_) {
        PageEntry& entry = entry_of(change);
        report.pages++;
        report.tokens_requantized += std::popcount(entry.live);
        if (entry.record) cache_.arena_->release(entry.record);
        entry.record = change.record;
        change.record = 0;
    }
    return report;
}

// Under the exclusive lock. Compaction and dropped prefixes rename and release records, so that another try plans anew.
Result<StepDownReport> Cache::run_step_down(Sequence& sequence, const std::function<Status(StepDown&)>& plan) {
    const int64_t before = arena_->bytes_in_use();
    for (int tries = 0;; tries++) {
        StepDown work(*this, sequence);
        KVC_TRY(plan(work));
        bool ready = work.acquire();
        if (!ready) {
            work.release_acquired();
            if (tries == 0 && compact()) continue;
            ready = work.swap_in_place();
        }
        if (ready) {
            StepDownReport report = work.apply();
            if (report.pages > 0) sequence.floor = sequence.length;
            counters_.tokens_requantized += report.tokens_requantized;
            report.bytes_freed = before - arena_->bytes_in_use();
            report.record_bytes = record_bytes(sequence);
            return report;
        }
        if (tries <= 1 && (make_room(work.needs(), nullptr) || drop_entries(work.without_old(), work.needs(), nullptr))) continue;
        return fail(Code::no_memory, "step_down: the arena of ", arena_->total_bytes(), " bytes has no room for the new records");
    }
}

int64_t Cache::record_bytes(const Sequence& sequence) const {
    int64_t bytes = 0;
    visit_records(sequence, [&](RecordId id) { bytes += bytes_of_record(id); });
    return bytes;
}

Result<StepDownReport> Cache::step_down(int64_t id, const StepDownRequest& request) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    return run_step_down(**sequence, [&](StepDown& work) { return work.plan(request); });
}

Status Cache::settle_ages(int64_t id, Sequence& sequence) {
    if (!has_ages_ || sequence.length == 0 || sequence.length % age_period != 0) return {};
    KVC_TRY(settle_sound(id, sequence));
    const auto by_age = [&](StepDown& work) -> Status {
        work.plan_ages(sequence.length);
        return {};
    };
    const Result<StepDownReport> report = run_step_down(sequence, by_age);
    return report.ok() ? Status{} : report.status();
}

Result<std::vector<int64_t>> Cache::read_rungs(int64_t id, int64_t layer, int64_t head) const {
    KVC_TRY(check_layer_head(layer, head));
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    std::vector<int64_t> out;
    for (const LiveToken& token : live_tokens(**sequence, size_t(layer), size_t(head)))
        out.push_back(token.form == KernelTable::Form::codes ? rung_of(size_t(layer), token.record) : -1);
    return out;
}

}  // namespace kvc
