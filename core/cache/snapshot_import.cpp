// Import: read and check all of it, take records, fill them, publish. Before the last step nothing of the cache has changed.
#include <algorithm>
#include <bit>
#include <cstring>

#include "core/cache/snapshot.h"

namespace kvc {
namespace {

// Tables that the bytes describe. Room is taken for a count only once so many bytes are there.
class DraftReader {
public:
    DraftReader(const SnapshotParts& parts, const std::vector<Layer>& layers, const PolicySpec& policy)
        : in_(parts.sequences), pages_(parts.pages), layers_(layers), policy_(policy) {}

    Result<SnapshotDraft> read();

private:
    Status read_sequence();
    Status read_layer(Sequence& sequence, size_t layer);
    void read_head(const Sequence& sequence, size_t layer, HeadPages* head);
    void read_queries(size_t layer, HeadPages* head);
    RecordId mention(size_t layer, RecordForm form, bool writable, int64_t rung = 0);
    int64_t number() { return int64_t(in_.get<uint64_t>()); }
    int64_t least_bytes() const;
    Status wrong(const std::string& what) const;
    Status stop() const;

    ByteReader in_, pages_;
    const std::vector<Layer>& layers_;
    const PolicySpec& policy_;
    SnapshotDraft draft_;
    std::string fault_;  // the first one
};

Status DraftReader::wrong(const std::string& what) const {
    return fail(Code::corrupt, "snapshot: sequence ", int64_t(draft_.sequences.size()), ": ", what, " makes no sense");
}

Status DraftReader::stop() const {
    if (!fault_.empty()) return wrong(fault_);
    return in_.ran_short() ? fail(Code::corrupt, "snapshot: the tables end too early") : Status{};
}

// Of the tables of one sequence.
int64_t DraftReader::least_bytes() const {
    Size bytes = 6 * 8 + 4;
    for (const Layer& layer : layers_)
        bytes = bytes + Size(6 * 8) + Size(layer.kv_heads) * Size(4 + 8 + 4 + 4);
    return bytes.value();
}

// A record is described where it is mentioned first, and its bytes follow those of the one before.
RecordId DraftReader::mention(size_t layer, RecordForm form, bool writable, int64_t rung) {
    const auto id = in_.get<uint32_t>();
    std::vector<RecordDraft>& records = draft_.records;
    if (id == 0 || !fault_.empty()) return 0;
    if (id <= records.size()) {
        const RecordDraft& known = records[id - 1];
        if (known.layer != layer || known.form != form || known.rung != rung || known.writable || writable) fault_ = "a shared record";
        return id;
    }
    const LayerFormat& format = layers_[layer].rung(rung);
    RecordDraft made = {uint32_t(layer), form, writable, pages_.take(snapshot_record_bytes(format, form)), rung};
    if (id != records.size() + 1 || pages_.ran_short()) {
        fault_ = "a record";
        return 0;
    }
    if (const char* bad = RecordCoder::check(format, form, made.bytes)) fault_ = bad;
    records.push_back(made);
    return id;
}

void DraftReader::read_queries(size_t layer, HeadPages* head) {
    const auto count = in_.get<uint32_t>();
    const int64_t dim = layers_[layer].format.k_dim;
    if (count == 0) return;
    if (count != layers_[layer].group() || in_.left() / 8 / (2 * dim + 1) < count) {
        fault_ = "query statistics";
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        QuerySums sums;
        sums.count = number();
        for (std::vector<int64_t>* each : {&sums.sum, &sums.square}) {
            each->resize(size_t(dim));
            in_.get_all(std::span(*each));
        }
        head->queries.push_back(std::move(sums));
    }
}

void DraftReader::read_head(const Sequence& sequence, size_t layer, HeadPages* head) {
    const PageRule& rule = layers_[layer].rule;
    const PageState& state = sequence.layers[layer].state;
    const RecordForm code = code_form(layers_[layer].format);
    head->sinks = mention(layer, RecordForm::sinks, sequence.length < rule.sinks);
    const int64_t coded = state.coded_end - state.first_coded;
    const int64_t window = std::max<int64_t>(0, rule.pages(sequence.length) - state.first_window);
    const bool ladder = layers_[layer].rungs() > 1;
    if (coded > in_.left() / (ladder ? 20 : 16) || window > in_.left() / 12) {
        fault_ = "the number of pages";
        return;
    }
    head->coded.resize(size_t(coded));
    for (PageEntry& entry : head->coded) {
        const int64_t rung = ladder ? int64_t(in_.get<uint32_t>()) : 0;
        if (rung >= layers_[layer].rungs()) {
            fault_ = "the rung of a page";
            return;
        }
        entry.record = mention(layer, rung > 0 ? RecordForm::codes : code, false, rung);
        entry.side = mention(layer, RecordForm::side, false);
        entry.live = in_.get<uint64_t>();
    }
    head->window.resize(size_t(window));
    for (int64_t e = 0; e < window; e++) {
        const bool unfinished = rule.page_start(state.first_window + e + 1) > sequence.length;
        head->window[size_t(e)].record = mention(layer, RecordForm::window, unfinished);
        head->window[size_t(e)].live = in_.get<uint64_t>();
    }
    const int64_t mass = number();
    if (mass < 0 || mass > in_.left() / 8) {
        fault_ = "the number of masses";
        return;
    }
    head->mass.resize(size_t(mass));
    in_.get_all(std::span(head->mass));
    read_queries(layer, head);
    const auto counts = int64_t(in_.get<uint32_t>());
    if (counts > in_.left() / 16) {
        fault_ = "the number of tokens that stand for others";
        return;
    }
    for (int64_t i = 0; i < counts; i++) {
        const int64_t position = number();
        const auto count = int32_t(in_.get<uint32_t>());
        head->counts.push_back({position, count, std::bit_cast<float>(in_.get<uint32_t>())});
    }
}

Status DraftReader::read_layer(Sequence& sequence, size_t layer) {
    LayerPages& pages = sequence.layers[layer];
    PageState& state = pages.state;
    for (int64_t* to : {&state.first_coded, &state.coded_end, &state.first_window, &state.kept, &pages.budget, &pages.recent})
        *to = number();
    if (const std::string bad = check_state(sequence, pages, layers_[layer], policy_); !bad.empty()) return wrong(bad);
    pages.heads.resize(size_t(layers_[layer].kv_heads));
    for (HeadPages& head : pages.heads) {
        read_head(sequence, layer, &head);
        KVC_TRY(stop());
        const std::string bad = check_head(sequence, layer, head, layers_[layer], policy_, draft_.records);
        if (!bad.empty()) return wrong(bad);
    }
    return {};
}

Status DraftReader::read_sequence() {
    auto sequence = std::make_unique<Sequence>();
    Sequence& s = *sequence;
    for (int64_t* to : {&s.first_position, &s.length, &s.prompt_end, &s.floor, &s.mass_queries, &s.context})
        *to = number();
    const auto flags = in_.get<uint32_t>();
    s.overdue = flags & 1;
    if (flags > 1) return wrong("a flag");
    if (const std::string bad = check_sequence(s, layers_, policy_); !bad.empty()) return wrong(bad);
    s.layers.resize(layers_.size());
    for (size_t i = 0; i < layers_.size(); i++)
        KVC_TRY(read_layer(s, i));
    draft_.sequences.push_back(std::move(sequence));
    return {};
}

Result<SnapshotDraft> DraftReader::read() {
    const int64_t n = number();
    if (n < 0 || n > in_.left() / least_bytes()) return fail(Code::corrupt, "snapshot: the tables end too early");
    for (int64_t i = 0; i < n; i++)
        KVC_TRY(read_sequence());
    if (in_.left() != 0 || pages_.left() != 0) return fail(Code::corrupt, "snapshot: bytes follow what its tables name");
    return std::move(draft_);
}

}  // namespace

// The size class of every record, in their order.
std::vector<int> Cache::draft_classes(const SnapshotDraft& draft) const {
    std::vector<int> size_classes;
    size_classes.reserve(draft.records.size());
    for (const RecordDraft& made : draft.records) {
        const LayerClasses& classes = classes_[made.layer];
        size_classes.push_back(made.form == RecordForm::sinks    ? classes.sinks
                               : made.form == RecordForm::window ? classes.window
                               : made.form == RecordForm::codes  ? arena_->class_of(layers_[made.layer].rung(made.rung).code_bytes)
                                                                 : side_class_);
    }
    return size_classes;
}

// A record of each class; false, and none taken, if the arena is full. `records` is as long as the classes and holds zeros.
bool Cache::allocate_drafts(std::span<const int> size_classes, std::vector<RecordId>* records) {
    for (size_t i = 0; i < size_classes.size(); i++) {
        (*records)[i] = arena_->allocate(size_classes[i]);
        if ((*records)[i]) continue;
        give_back(records);
        return false;
    }
    return true;
}

void Cache::give_back(std::vector<RecordId>* records) {
    for (RecordId& id : *records) {
        if (id) arena_->release(id);
        id = 0;
    }
}

// Bytes into the records, and their ids into the tables.
void Cache::fill_drafts(SnapshotDraft& draft, std::span<const RecordId> records) {
    std::vector<bool> owned(records.size());
    const auto own = [&](RecordId* id) {
        if (*id == 0) return;
        const size_t number = *id - 1;
        *id = records[number];
        if (owned[number]) arena_->retain(*id);
        owned[number] = true;
    };
    RecordCoder coder(*kernels_, layers_);
    std::vector<std::byte> room;
    for (size_t i = 0; i < records.size(); i++) {
        const RecordDraft& made = draft.records[i];
        room.assign(size_t(bytes_of_record(records[i])), std::byte{0});
        coder.restore(layers_[made.layer].rung(made.rung), made.form, made.bytes, room.data());
        if (made.form == RecordForm::side) {
            PageSide side;
            std::memcpy(&side, room.data(), sizeof side);
            arena_->put_side(records[i], side);
        } else {
            arena_->put(records[i], room.data());
        }
    }
    for (const std::unique_ptr<Sequence>& sequence : draft.sequences) {
        for (LayerPages& pages : sequence->layers) {
            for (HeadPages& head : pages.heads) {
                own(&head.sinks);
                for (std::vector<PageEntry>* table : {&head.coded, &head.window}) {
                    for (PageEntry& entry : *table) {
                        own(&entry.record);
                        own(&entry.side);
                    }
                }
            }
        }
    }
}

Result<SnapshotDraft> Cache::read_snapshot(std::span<const std::byte> bytes) const {
    std::string layout;
    {
        Result<Shared> lock = shared();  // the caller's RoPE frequencies may change until the first sequence is there
        if (!lock.ok()) return lock.status();
        layout = layout_text(layers_, rope_, policy_);
    }
    Result<SnapshotParts> parts = split_snapshot(bytes);
    if (!parts.ok()) return parts.status();
    if (parts->layout != layout) return layout_difference(parts->layout, layout);
    Result<SnapshotDraft> draft = DraftReader(*parts, layers_, policy_).read();
    if (draft.ok()) draft->layout = std::move(layout);
    return draft;
}

// Under the exclusive lock: all records, or none; at the cost of prefix entries where the arena is full.
Status Cache::place_drafts(SnapshotDraft& draft) {
    const std::vector<int> size_classes = draft_classes(draft);
    std::vector<int64_t> needs(arena_->class_count());
    for (const int size_class : size_classes)
        needs[size_t(size_class)]++;
    std::vector<RecordId> records(size_classes.size());
    try {
        bool room = allocate_drafts(size_classes, &records);
        if (!room && compact()) room = allocate_drafts(size_classes, &records);
        if (!room && make_room(needs, nullptr)) room = allocate_drafts(size_classes, &records);
        if (room) {
            fill_drafts(draft, records);
            return {};
        }
    } catch (...) {
        give_back(&records);
        throw;
    }
    return fail(Code::no_memory, "snapshot: the arena of ", arena_->total_bytes(), " bytes has no room for its ",
                int64_t(records.size()), " records");
}

Result<std::vector<int64_t>> Cache::import_snapshot(SnapshotDraft draft) {
    const size_t n = draft.sequences.size();
    std::vector<uint32_t> slots;
    std::vector<int64_t> ids(n);
    slots.reserve(n);
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (n > 0) KVC_TRY(check_frequencies());
    if (slots_.empty() && draft.layout != layout_text(layers_, rope_, policy_)) {
        return fail(Code::busy, "snapshot: the RoPE frequencies were changed during the import");
    }
    const bool first_ever = slots_.empty();
    const auto undo = [&] {
        free_slots_.insert(free_slots_.end(), slots.begin(), slots.end());  // take_slot reserved the room
        if (!first_ever) return;
        slots_.clear();  // a cache that has had no sequence still takes other frequencies
        free_slots_.clear();
    };
    Status status;
    try {
        while (slots.size() < n && status.ok()) {
            Result<uint32_t> slot = take_slot();
            if (slot.ok()) slots.push_back(*slot);
            if (!slot.ok()) status = slot.status();
        }
        if (status.ok()) status = place_drafts(draft);
    } catch (...) {
        undo();
        throw;
    }
    if (!status.ok()) {
        undo();
        return status;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = fill_slot(slots[i], std::move(draft.sequences[i]));
    return ids;
}

}  // namespace kvc
