#include "tests/kernels/head.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <map>
#include <new>
#include <set>

#include "core/base/half.h"
#include "core/codec/canonical.h"

namespace kvc_test {

LayerFormat format_of(const std::string& codec, int k_dim, int v_dim) {
    const auto pair = kvc::parse_codec(codec);
    REQUIRE_MESSAGE(pair.ok(), codec);
    const auto format = kvc::make_format(*pair, k_dim, v_dim);
    REQUIRE_MESSAGE(format.ok(), codec, " ", k_dim, " ", v_dim);
    return *format;
}

const std::vector<std::string>& grid_codecs() {
    static const std::vector<std::string> codecs = [] {
        std::vector<std::string> all;
        for (int i = 0; i < kvc::preset_count(); ++i) {
            all.emplace_back(kvc::preset_name(i));
        }
        for (const char* pair : {"k=int8.ch.g32.m8,v=int4.tok.rot.ls", "k=int4.ch.g64.m8,v=int4.tok.rot.ls",
                                 "k=int4.ch.g64.m8,v=int2.tok.rot.ls", "k=int2.ch.g64,v=int2.tok.ls", "k=f16,v=int4.tok.rot.ls",
                                 "k=int4.ch.g32.m8,v=f16", "k=int8.tok.rot.sym,v=int8.tok.rot.sym", "k=int4.tok.rot,v=int4.ch.g32",
                                 "k=int3.ch.g64.sym,v=int3.tok.g16", "k=int2.tok.ls,v=int8.ch.g64.m8", "k=f16,v=f16,sinks=4"}) {
            all.emplace_back(pair);
        }
        return all;
    }();
    return codecs;
}

bool fits(const std::string& codec, int k_dim, int v_dim) { return kvc::make_format(*kvc::parse_codec(codec), k_dim, v_dim).ok(); }

std::vector<float> gaussian(size_t n, unsigned seed, float size) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& v : x) {
        v = size * normal(random);
    }
    return x;
}

RecordId Records::add(int64_t bytes) {
    auto* block = static_cast<std::byte*>(::operator new[](size_t(bytes), std::align_val_t{128}));
    std::memset(block, 0xff, size_t(bytes));
    memory_.emplace_back(block);
    slabs_.push_back(block);
    return RecordId(memory_.size() - 1) << kvc::record_index_bits;
}

Head::Head(const KernelTable& table, const std::string& codec, int k_dim, int v_dim, int pages, unsigned seed, float k_size,
           float v_size)
    : table_(table),
      format_(format_of(codec, k_dim, v_dim)),
      live_(size_t(pages), kvc::all_live),
      dropped_(size_t(pages), false),
      side_(size_t(pages), 0),
      positions_(size_t(pages)) {
    const size_t tokens = size_t(sinks() + int64_t{pages} * page_tokens);
    k_ = gaussian(tokens * size_t(k_dim), seed, k_size);
    v_ = gaussian(tokens * size_t(v_dim), seed + 1, v_size);
    for (size_t i = 0; i < k_.size(); ++i) {
        k_[i] += i % size_t(k_dim) % 11 == 5 ? 4.0f * k_size : 0.0f;  // some channels have a mean, as keys do
    }
    for (int page = 0; page < pages; ++page) {
        full_.push_back(window_record(page, page_tokens));
        if (format_.lossless) {
            coded_.push_back(full_.back());
        } else {
            coded_.push_back(records_.add(format_.code_bytes));
            table.quantize({&format_, records_.at(full_.back()), records_.at(coded_.back())});
        }
    }
}

RecordId Head::window_record(int page, int64_t tokens) {
    const RecordId id = records_.add(format_.window_bytes);
    const int64_t first = sinks() + int64_t{page} * page_tokens;
    const kvc::StoreParams store{&format_,
                                 k_.data() + first * format_.k_dim,
                                 v_.data() + first * format_.v_dim,
                                 kvc::Dtype::f32,
                                 format_.k_dim,
                                 format_.v_dim,
                                 tokens,
                                 records_.at(id),
                                 false,
                                 0,
                                 false};
    REQUIRE(table_.store(store) == -1);
    return id;
}

void Head::set_positions(int page, const std::array<int64_t, page_tokens>& positions) {
    positions_[size_t(page)] = positions;
    side_[size_t(page)] = records_.add(kvc::side_bytes);
    std::memcpy(records_.at(side_[size_t(page)]), positions.data(), sizeof positions);
}

// Steps of an integer part, element by element, from the canonical form.
static void steps_of(const kvc::Codec& codec, int dim, const kvc::CanonicalPart& part, std::vector<float>* steps) {
    for (int t = 0; t < page_tokens; ++t) {
        for (int d = 0; d < dim; ++d) {
            const bool channel = codec.axis == kvc::Axis::channel;
            const int at = channel ? t / codec.group * dim + d : (codec.group ? d / codec.group : 0) * page_tokens + t;
            const float scale = codec.m8 ? float(part.scales[at]) * kvc::f32_from_f16(part.super_scale[t / codec.group])
                                         : kvc::f32_from_f16(part.scales[at]);
            (*steps)[size_t(t * dim + d)] = scale;
        }
    }
}

Tile Head::tile_of(KernelTable::Form form, RecordId record, int64_t first, int64_t tokens) {
    Tile tile;
    tile.k.resize(size_t(page_tokens * format_.k_dim));
    tile.v.resize(size_t(page_tokens * format_.v_dim));
    tile.k_step.resize(tile.k.size());
    tile.v_step.resize(tile.v.size());
    table_.read(format_, form, records_.at(record), tile.k.data(), tile.v.data());
    if (form == KernelTable::Form::codes) {
        auto k = std::make_unique<kvc::CanonicalPart>(), v = std::make_unique<kvc::CanonicalPart>();
        table_.unpack(format_, records_.at(record), k.get(), v.get());
        const auto measure = [](const kvc::Codec& codec, int dim, const kvc::CanonicalPart& part, std::vector<float>* steps,
                                double* last) {
            if (!kvc::is_16_bit(codec.type)) {
                steps_of(codec, dim, part, steps);
                *last = (1 << kvc::bits_of(codec.type)) - 1;
            }
        };
        measure(format_.codec.k, format_.k_dim, *k, &tile.k_step, &tile.k_last);
        measure(format_.codec.v, format_.v_dim, *v, &tile.v_step, &tile.v_last);
    }
    for (int t = 0; t < page_tokens; ++t) {
        tile.position[size_t(t)] = first + t;
    }
    tile.live = tokens >= page_tokens ? kvc::all_live : (uint64_t{1} << tokens) - 1;
    return tile;
}

kvc::PageEntry Head::entry_of(int page, RecordId record) const {
    return {dropped_[size_t(page)] ? RecordId{0} : record, side_[size_t(page)], live_[size_t(page)]};
}

void Head::give_positions(int page, Tile* tile) const {
    tile->live &= dropped_[size_t(page)] ? 0 : live_[size_t(page)];
    if (side_[size_t(page)]) {
        tile->position = positions_[size_t(page)];
    }
}

std::unique_ptr<Item> Head::item_of(int64_t n, int64_t coded, int64_t first_coded, bool with_sinks, bool with_window) {
    auto out = std::make_unique<Item>();
    kvc::AttendItem& item = out->item;
    const int64_t pages_from = first_position_ + sinks();
    if (const int64_t held = std::min(n, sinks()); with_sinks && held > 0) {
        const RecordId id = records_.add(format_.sink_bytes);
        const kvc::StoreParams store{
            &format_, k_.data(), v_.data(), kvc::Dtype::f32, format_.k_dim, format_.v_dim, held, records_.at(id), true, 0, false};
        REQUIRE(table_.store(store) == -1);
        item.sinks = id;
        item.sink_tokens = held;
        item.sinks_position = first_position_;
        out->tiles.push_back(tile_of(KernelTable::Form::sinks, id, first_position_, held));
    }
    std::vector<kvc::PageEntry> code_entries, window_entries;
    for (int64_t page = first_coded; page < coded; ++page) {
        code_entries.push_back(entry_of(int(page), coded_[size_t(page)]));
        out->tiles.push_back(tile_of(KernelTable::Form::codes, coded_[size_t(page)], pages_from + page * page_tokens, page_tokens));
        give_positions(int(page), &out->tiles.back());
    }
    for (int64_t page = coded; with_window && sinks() + page * page_tokens < n; ++page) {
        const int64_t tokens = std::min(n - sinks() - page * page_tokens, int64_t{page_tokens});
        const RecordId id = tokens == page_tokens ? full_[size_t(page)] : window_record(int(page), tokens);
        window_entries.push_back(entry_of(int(page), id));
        out->tiles.push_back(tile_of(KernelTable::Form::window, id, pages_from + page * page_tokens, tokens));
        give_positions(int(page), &out->tiles.back());
    }
    item.n_coded = int64_t(code_entries.size());
    item.coded_position = pages_from + first_coded * page_tokens;
    item.n_window = int64_t(window_entries.size());
    item.window_position = pages_from + coded * page_tokens;
    entries_.push_back(std::move(code_entries));
    item.coded = entries_.back().data();
    entries_.push_back(std::move(window_entries));
    item.window = entries_.back().data();
    return out;
}

void give_counts(Item* item, unsigned seed) {
    std::mt19937 random(seed);
    std::map<int64_t, int32_t> counts;
    for (const Tile& tile : item->tiles) {
        for (const int64_t position : tile.position) {
            if (random() % 3 == 0) {
                counts[position] = int32_t(2 + random() % 999);
            }
        }
    }
    item->counts.clear();
    for (const auto& [position, count] : counts) {
        item->counts.push_back({position, count, std::log(float(count))});
    }
    for (Tile& tile : item->tiles) {
        for (size_t t = 0; t < size_t(page_tokens); ++t) {
            const auto found = counts.find(tile.position[t]);
            tile.log_count[t] = found != counts.end() ? double(std::log(float(found->second))) : 0.0;
        }
    }
    item->item.counts = item->counts.data();
    item->item.n_counts = int64_t(item->counts.size());
}

void for_each_table(const std::function<void(const KernelTable&)>& visit) {
    const std::vector<const KernelTable*> tables = tables_under_test();
    REQUIRE(!tables.empty());
    for (const KernelTable* table : tables) {
        INFO("table ", std::string(table->name));
        visit(*table);
    }
}

static void say_once(const std::string& text) {
    static std::set<std::string> said;
    if (said.insert(text).second) {
        MESSAGE(text);
    }
}

bool offers(const KernelTable& table, const std::string& codec, int k_dim, int v_dim) {
    const char* reason = table.unsupported ? table.unsupported(format_of(codec, k_dim, v_dim)) : nullptr;
    if (reason) {
        say_once(std::string(table.name) + " is not tested with what it refuses: " + reason);
    }
    return !reason;
}

bool offers_mass(const KernelTable& table) {
    if (!table.mass) {
        say_once(std::string(table.name) + " is not tested with mass: it accumulates none");
    }
    return table.mass != nullptr;
}

bool offers_counts(const KernelTable& table) {
    if (!table.weighs_counts) {
        say_once(std::string(table.name) + " is not tested with counts: it does not weigh them");
    }
    return table.weighs_counts;
}

bool has_cpu_byte_order(const KernelTable& table) {
    for (int i = 0; i < kvc::kernel_table_count(); ++i) {
        if (kvc::kernel_table(i) == &table) {
            return true;
        }
    }
    return false;
}

const KernelTable& scalar() {
    const KernelTable* last = kvc::kernel_table(kvc::kernel_table_count() - 1);
    REQUIRE(std::string(last->name) == "scalar");
    return *last;
}

}  // namespace kvc_test
