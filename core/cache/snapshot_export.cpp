// Export: a walk over the tables of some sequences, made twice: once to count, once to write.
#include <algorithm>
#include <bit>
#include <unordered_map>

#include "core/base/xxh64.h"
#include "core/cache/snapshot.h"

namespace kvc {

// Records are numbered in the order of their first mention, and lie in that order behind the tables.
class SnapshotWriter {
public:
    SnapshotWriter(const Cache& cache, std::span<Sequence* const> sequences, std::string layout)
        : cache_(cache), sequences_(sequences), layout_(std::move(layout)) {}

    int64_t count() { return write(nullptr, 0); }
    // total: what count() gave.
    int64_t write(std::byte* out, int64_t total);

private:
    struct Mentioned {
        size_t layer;
        RecordForm form;
        RecordId id;
        int64_t tokens;    // slots that hold one
        int64_t rung = 0;  // of the ladder
    };

    template <class Body>
    void section(ByteWriter& out, uint32_t tag, const Body& body);
    void write_sequences(ByteWriter& out);
    void write_sequence(const Sequence& sequence, ByteWriter& out);
    void write_head(const Sequence& sequence, size_t layer, const HeadPages& head, ByteWriter& out);
    void write_pages(ByteWriter& out);
    uint32_t mention(size_t layer, RecordForm form, RecordId id, int64_t tokens, int64_t rung = 0);

    const Cache& cache_;
    const std::span<Sequence* const> sequences_;
    const std::string layout_;
    std::vector<Mentioned> records_;
    std::unordered_map<RecordId, uint32_t> shared_;  // numbers of records with several owners
};

uint32_t SnapshotWriter::mention(size_t layer, RecordForm form, RecordId id, int64_t tokens, int64_t rung) {
    if (id == 0) return 0;
    if (cache_.arena_->shared(id)) {
        const auto [found, fresh] = shared_.emplace(id, uint32_t(records_.size() + 1));
        if (!fresh) return found->second;
    }
    records_.push_back({layer, form, id, tokens, rung});
    return uint32_t(records_.size());
}

template <class Body>
void SnapshotWriter::section(ByteWriter& out, uint32_t tag, const Body& body) {
    ByteWriter measure(nullptr);
    if (!out.counts_only()) body(measure);
    const int64_t start = out.written();
    out.put(tag);
    out.put(section_required);
    out.put(uint64_t(measure.written()));
    body(out);
    out.put(out.counts_only() ? uint64_t{0} : xxh64(out.since(start)));
}

void SnapshotWriter::write_head(const Sequence& sequence, size_t layer, const HeadPages& tables, ByteWriter& out) {
    // Named one by one, so that a new member does not compile until snapshots hold it too.
    const auto& [sinks, coded, window, mass, queries, counts] = tables;
    const PageRule& rule = cache_.layers_[layer].rule;
    const PageState& state = sequence.layers[layer].state;
    const int64_t length = sequence.length;
    const RecordForm code = code_form(cache_.layers_[layer].format);
    const bool ladder = cache_.layers_[layer].rungs() > 1;
    out.put(mention(layer, RecordForm::sinks, sinks, std::min(rule.sinks, length)));
    for (const auto& [record, side, live] : coded) {
        const int64_t rung = record ? cache_.rung_of(layer, record) : 0;
        if (ladder) out.put(uint32_t(rung));
        out.put(mention(layer, rung > 0 ? RecordForm::codes : code, record, page_tokens, rung));
        out.put(mention(layer, RecordForm::side, side, page_tokens));
        out.put(live);
    }
    for (size_t e = 0; e < window.size(); e++) {
        const int64_t start = rule.page_start(state.first_window + int64_t(e));
        out.put(mention(layer, RecordForm::window, window[e].record, std::min<int64_t>(page_tokens, length - start)));
        out.put(window[e].live);
    }
    out.put(uint64_t(mass.size()));
    out.put_all(std::span(mass));
    // Begin makes room for sums before there are any: an aborted step leaves zeros, which say as much as none.
    const bool observed = std::any_of(queries.begin(), queries.end(), [](const QuerySums& sums) { return sums.count > 0; });
    out.put(observed ? uint32_t(queries.size()) : uint32_t{0});
    for (const auto& [sum, square, count] : observed ? std::span(queries) : std::span<const QuerySums>()) {
        out.put(uint64_t(count));
        out.put_all(std::span(sum));
        out.put_all(std::span(square));
    }
    out.put(uint32_t(counts.size()));
    for (const auto& [position, count, log_count] : counts) {
        out.put(uint64_t(position));
        out.put(uint32_t(count));
        out.put(std::bit_cast<uint32_t>(log_count));
    }
}

void SnapshotWriter::write_sequence(const Sequence& sequence, ByteWriter& out) {
    // Sequences are settled before they are written, and bad ones refused.
    const auto& [first_position, length, prompt_end, floor, mass_queries, context, in_step, overdue, bad_from, unsettled, layers] =
        sequence;
    for (const int64_t number : {first_position, length, prompt_end, floor, mass_queries, context})
        out.put(uint64_t(number));
    out.put(uint32_t(overdue));
    for (size_t i = 0; i < layers.size(); i++) {
        const auto& [state, budget, recent, heads] = layers[i];
        const auto& [first_coded, coded_end, first_window, kept] = state;
        for (const int64_t number : {first_coded, coded_end, first_window, kept, budget, recent})
            out.put(uint64_t(number));
        for (const HeadPages& head : heads)
            write_head(sequence, i, head, out);
    }
}

void SnapshotWriter::write_sequences(ByteWriter& out) {
    records_.clear();
    shared_.clear();
    out.put(uint64_t(sequences_.size()));
    for (const Sequence* sequence : sequences_)
        write_sequence(*sequence, out);
}

void SnapshotWriter::write_pages(ByteWriter& out) {
    if (out.counts_only()) {
        for (const Mentioned& record : records_)
            out.skip(snapshot_record_bytes(cache_.layers_[record.layer].rung(record.rung), record.form));
        return;
    }
    RecordCoder coder(*cache_.kernels_, cache_.layers_);
    std::vector<std::byte> room;
    for (const Mentioned& record : records_) {
        const std::byte* const bytes = cache_.arena_->fetch(record.id, room);
        coder.write(cache_.layers_[record.layer].rung(record.rung), record.form, bytes, record.tokens, out);
    }
}

int64_t SnapshotWriter::write(std::byte* memory, int64_t total) {
    const std::span<const std::byte> layout = std::as_bytes(std::span(layout_));
    ByteWriter out(memory);
    out.put_bytes(std::as_bytes(std::span(snapshot_magic)));
    out.put(snapshot_version);
    out.put(uint32_t{3});
    out.put(uint64_t(total));
    out.put(xxh64(layout));
    out.put(memory ? xxh64(out.since(0)) : 0);
    section(out, layout_section, [&](ByteWriter& to) { to.put_bytes(layout); });
    section(out, sequences_section, [&](ByteWriter& to) { write_sequences(to); });
    section(out, pages_section, [&](ByteWriter& to) { write_pages(to); });
    return out.written();
}

Result<std::vector<Sequence*>> Cache::sequences_to_export(std::span<const int64_t> ids, bool all) const {
    std::vector<int64_t> chosen(ids.begin(), ids.end());
    for (uint32_t slot = 0; all && slot < slots_.size(); slot++) {
        if (slots_[slot].sequence) chosen.push_back(id_of(slot));
    }
    std::vector<int64_t> sorted = chosen;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) return fail(Code::argument, "snapshot: sequence ", *twice, " appears twice");
    std::vector<Sequence*> sequences;
    for (const int64_t id : all ? sorted : chosen) {
        Result<Sequence*> sequence = require_idle(id);
        if (!sequence.ok()) return sequence.status();
        if ((*sequence)->length > snapshot_length_limit) {
            return fail(Code::unsupported, "snapshot: sequence ", id, " has ", (*sequence)->length, " tokens, more than 2^40");
        }
        sequences.push_back(*sequence);
    }
    return sequences;
}

Result<int64_t> Cache::export_snapshot(std::span<const int64_t> ids, bool all, const SnapshotPlace& place) const {
    Result<Shared> lock = shared_and_settled();
    if (!lock.ok()) return lock.status();
    Result<std::vector<Sequence*>> sequences = sequences_to_export(ids, all);
    if (!sequences.ok()) return sequences.status();
    SnapshotWriter writer(*this, *sequences, layout_text(layers_, rope_, policy_));
    const int64_t total = writer.count();
    Result<std::byte*> memory = place(total);
    if (!memory.ok()) return memory.status();
    if (*memory) writer.write(*memory, total);
    KVC_TRY(arena_->fault());
    return total;
}

}  // namespace kvc
