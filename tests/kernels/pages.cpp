// Records: what store, quantize, read, unpack and pack do with whole pages, for every table, against the scalar truth.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <set>

#include "core/base/half.h"
#include "core/codec/canonical.h"
#include "tests/kernels/head.h"

using namespace kvc_test;
using kvc::CanonicalPart;

namespace {

const std::pair<int, int> dims[] = {{64, 64}, {80, 80}, {96, 64}, {112, 112}, {128, 128}, {16, 48}, {256, 128}, {128, 256}};

// Keys and values in the stored basis, exactly as a window record holds them.
struct Window {
    std::vector<float> k, v;
};

Window read_window(const KernelTable& table, const LayerFormat& f, const std::byte* record, KernelTable::Form form) {
    Window w{std::vector<float>(size_t(page_tokens * f.k_dim)), std::vector<float>(size_t(page_tokens * f.v_dim))};
    table.read(f, form, record, w.k.data(), w.v.data());
    return w;
}

// 64 tokens through store, into a record of the table's own.
RecordId stored_page(const KernelTable& table, const LayerFormat& f, Records* records, const std::vector<float>& k,
                     const std::vector<float>& v) {
    const RecordId id = records->add(f.window_bytes);
    REQUIRE(table.store({&f, k.data(), v.data(), kvc::Dtype::f32, f.k_dim, f.v_dim, page_tokens, records->at(id), false, 0, false}) ==
            -1);
    return id;
}

struct Parts {
    CanonicalPart k, v;
};

// The codes that the definition asks for.
std::unique_ptr<Parts> truth_of(const LayerFormat& f, const Window& w) {
    auto parts = std::make_unique<Parts>();
    if (!kvc::is_16_bit(f.codec.k.type)) {
        kvc::encode_part(f.codec.k, f.k_dim, w.k.data(), &parts->k);
    }
    if (!kvc::is_16_bit(f.codec.v.type)) {
        kvc::encode_part(f.codec.v, f.v_dim, w.v.data(), &parts->v);
    }
    return parts;
}

bool same_parts(const LayerFormat& f, const Parts& a, const Parts& b) {
    return (kvc::is_16_bit(f.codec.k.type) || kvc::same_part(f.codec.k, f.k_dim, a.k, b.k)) &&
           (kvc::is_16_bit(f.codec.v.type) || kvc::same_part(f.codec.v, f.v_dim, a.v, b.v));
}

// Quantizes the window on the table; everything about the code record must follow from the window by the definition.
void check_quantized(const KernelTable& table, const LayerFormat& f, Records* records, RecordId window) {
    const Window w = read_window(table, f, records->at(window), KernelTable::Form::window);
    const auto truth = truth_of(f, w);
    const RecordId id = records->add(f.code_bytes), again = records->add(f.code_bytes), witness = records->add(f.code_bytes);
    table.quantize({&f, records->at(window), records->at(id)});
    auto parts = std::make_unique<Parts>();
    table.unpack(f, records->at(id), &parts->k, &parts->v);
    REQUIRE(same_parts(f, *parts, *truth));

    if (has_cpu_byte_order(table)) {
        scalar().quantize({&f, records->at(window), records->at(witness)});
        REQUIRE(std::memcmp(records->at(id), records->at(witness), size_t(f.code_bytes)) == 0);
    }

    table.quantize({&f, records->at(window), records->at(again)});
    table.pack(f, parts->k, parts->v, records->at(again));
    REQUIRE(std::memcmp(records->at(id), records->at(again), size_t(f.code_bytes)) == 0);

    const Window decoded = read_window(table, f, records->at(id), KernelTable::Form::codes);
    std::vector<float> k = w.k, v = w.v;
    if (!kvc::is_16_bit(f.codec.k.type)) {
        kvc::decode_part(f.codec.k, f.k_dim, truth->k, k.data());
    }
    if (!kvc::is_16_bit(f.codec.v.type)) {
        kvc::decode_part(f.codec.v, f.v_dim, truth->v, v.data());
    }
    REQUIRE(decoded.k == k);
    REQUIRE(decoded.v == v);
}

}  // namespace

TEST_CASE("tables: there is one, the last is scalar, names are unique, others are refused") {
    REQUIRE(kvc::kernel_table_count() >= 1);
    std::set<std::string> names;
    for_each_table([&](const KernelTable& table) { CHECK(names.insert(table.name).second); });
    CHECK((scalar().attend != nullptr));
    CHECK(kvc::kernel_table(-1) == nullptr);
    CHECK(kvc::kernel_table(kvc::kernel_table_count()) == nullptr);
}

TEST_CASE("quantize: codes, metadata and bytes are the scalar truth's, for every codec and head dim") {
    for_each_table([](const KernelTable& table) {
        for (const std::string& codec : grid_codecs()) {
            for (const auto& [k_dim, v_dim] : dims) {
                INFO(std::string(table.name), " ", std::string(codec), " ", k_dim, " ", v_dim);
                if (!fits(codec, k_dim, v_dim) || format_of(codec, k_dim, v_dim).lossless || !offers(table, codec, k_dim, v_dim)) {
                    continue;
                }
                const LayerFormat f = format_of(codec, k_dim, v_dim);
                Records records;
                for (const float size : {1.0f, 0x1p-12f, 1000.0f}) {
                    const std::vector<float> k = gaussian(size_t(page_tokens * k_dim), 3, size);
                    const std::vector<float> v = gaussian(size_t(page_tokens * v_dim), 4, size);
                    check_quantized(table, f, &records, stored_page(table, f, &records, k, v));
                }
            }
        }
    });
}

TEST_CASE("quantize: all finite fp16 values, constants and zeros give the scalar truth's codes") {
    constexpr int dim = 256;
    std::vector<float> finite;
    for (int h = 0; h < 65536; ++h) {
        if (const float x = kvc::f32_from_f16(uint16_t(h)); std::isfinite(x)) {
            finite.push_back(x);
        }
    }
    for_each_table([&](const KernelTable& table) {
        for (const std::string& codec : grid_codecs()) {
            const LayerFormat f = format_of(codec, dim, dim);
            if (f.lossless || !offers(table, codec, dim, dim)) {
                continue;
            }
            INFO(std::string(table.name), " ", std::string(codec));
            Records records;
            auto fill = [&](RecordId id, size_t start, size_t stride) {
                auto* numbers = reinterpret_cast<uint16_t*>(records.at(id));
                for (size_t i = 0; i < size_t(2 * page_tokens * dim); ++i) {
                    numbers[i] = kvc::f16_from_f32(finite[(start + i * stride) % finite.size()]);
                }
            };
            const RecordId window = records.add(f.window_bytes);
            for (const size_t stride : {size_t{1}, size_t{257}}) {
                for (size_t start = 0; start < finite.size(); start += size_t(page_tokens * dim)) {
                    fill(window, start, stride);
                    check_quantized(table, f, &records, window);
                }
            }
            for (const size_t constant : {size_t{0}, size_t{1}, size_t{15360}, finite.size() / 2 - 1, finite.size() - 1}) {
                fill(window, constant, 0);
                check_quantized(table, f, &records, window);
            }
        }
    });
}

TEST_CASE("store: writes exactly the rounded numbers, from every dtype and stride, and no other slot") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "bf16", "kivi4"}) {
            if (!offers(table, codec, 96, 64)) {
                continue;
            }
            for (const kvc::Dtype dtype : {kvc::Dtype::f32, kvc::Dtype::f16, kvc::Dtype::bf16}) {
                INFO(std::string(table.name), " ", std::string(codec), " ", int(dtype));
                const LayerFormat f = format_of(codec, 96, 64);
                const bool bf16 = f.bf16_window;
                constexpr int64_t tokens = 5, first = 14, stride = 200;
                std::vector<float> x = gaussian(size_t(tokens * stride), 9);
                std::vector<uint16_t> half(x.size());
                for (size_t i = 0; i < x.size(); ++i) {
                    half[i] = dtype == kvc::Dtype::bf16 ? kvc::bf16_from_f32(x[i]) : kvc::f16_from_f32(x[i]);
                    if (dtype != kvc::Dtype::f32) {
                        x[i] = dtype == kvc::Dtype::bf16 ? kvc::f32_from_bf16(half[i]) : kvc::f32_from_f16(half[i]);
                    }
                }
                const void* base = dtype == kvc::Dtype::f32 ? static_cast<const void*>(x.data()) : half.data();
                const void* v = dtype == kvc::Dtype::f32 ? static_cast<const void*>(x.data() + 1) : half.data() + 1;
                Records records;
                const RecordId id = records.add(f.window_bytes);
                REQUIRE(table.store({&f, base, v, dtype, stride, stride, tokens, records.at(id), false, first, false}) == -1);
                const Window w = read_window(table, f, records.at(id), KernelTable::Form::window);
                const auto rounded = [&](float number) {
                    return bf16 ? kvc::f32_from_bf16(kvc::bf16_from_f32(number)) : kvc::f32_from_f16(kvc::f16_from_f32(number));
                };
                for (int64_t t = 0; t < page_tokens; ++t) {
                    const bool written = t >= first && t < first + tokens;
                    for (int64_t d = 0; d < 96; ++d) {
                        const float k = w.k[size_t(t * 96 + d)];
                        REQUIRE((written ? k == rounded(x[size_t((t - first) * stride + d)]) : std::isnan(k)));
                    }
                    for (int64_t d = 0; d < 64; ++d) {
                        const float number = w.v[size_t(t * 64 + d)];
                        REQUIRE((written ? number == rounded(x[size_t((t - first) * stride + d + 1)]) : std::isnan(number)));
                    }
                }
            }
        }
    });
}

TEST_CASE("store: rotated parts hold the rotation, rounded; bytes are the same on every table") {
    for_each_table([](const KernelTable& table) {
        for (const auto& [k_dim, v_dim] : dims) {
            INFO(std::string(table.name), " ", k_dim, " ", v_dim);
            const char* const codec = "k=int8.tok.rot.sym,v=int4.tok.rot.ls,window=0,sinks=4";
            if (!offers(table, codec, k_dim, v_dim)) {
                continue;
            }
            const LayerFormat f = format_of(codec, k_dim, v_dim);
            const std::vector<float> k = gaussian(size_t(page_tokens * k_dim), 5), v = gaussian(size_t(page_tokens * v_dim), 6);
            Records records;
            const RecordId id = stored_page(table, f, &records, k, v), witness = stored_page(scalar(), f, &records, k, v);
            CHECK(std::memcmp(records.at(id), records.at(witness), size_t(f.window_bytes)) == 0);
            const Window w = read_window(table, f, records.at(id), KernelTable::Form::window);
            const RecordId sinks = records.add(f.sink_bytes);
            REQUIRE(table.store({&f, k.data(), v.data(), kvc::Dtype::f32, k_dim, v_dim, 3, records.at(sinks), true, 0, false}) == -1);
            REQUIRE(table.store({&f, k.data() + 3 * k_dim, v.data() + 3 * v_dim, kvc::Dtype::f32, k_dim, v_dim, 1, records.at(sinks),
                                 true, 3, false}) == -1);
            const Window s = read_window(table, f, records.at(sinks), KernelTable::Form::sinks);
            for (int t = 0; t < page_tokens; ++t) {
                std::vector<float> row(k.begin() + t * k_dim, k.begin() + (t + 1) * k_dim);
                kvc::rotate(row.data(), k_dim);
                for (int d = 0; d < k_dim; ++d) {
                    const float expected = kvc::f32_from_f16(kvc::f16_from_f32(row[size_t(d)]));
                    REQUIRE(w.k[size_t(t * k_dim + d)] == expected);
                    REQUIRE((t >= 4 || s.k[size_t(t * k_dim + d)] == expected));
                }
                row.assign(v.begin() + t * v_dim, v.begin() + (t + 1) * v_dim);
                kvc::rotate(row.data(), v_dim);
                for (int d = 0; d < v_dim; ++d) {
                    const float expected = kvc::f32_from_f16(kvc::f16_from_f32(row[size_t(d)]));
                    REQUIRE(w.v[size_t(t * v_dim + d)] == expected);
                    REQUIRE((t >= 4 || s.v[size_t(t * v_dim + d)] == expected));
                }
            }
        }
    });
}

TEST_CASE("store: the first token that cannot be held is named; saturate clamps what is finite") {
    struct Case {
        const char* codec;
        float number;
        bool k, refused, saturates;
    };
    const float inf = HUGE_VALF, nan = std::nanf("");
    const Case cases[] = {
        {"fp16", 65504.0f, true, false, true},  {"fp16", 65519.9f, false, false, true}, {"fp16", 65520.0f, true, true, true},
        {"fp16", -70000.0f, false, true, true}, {"fp16", inf, true, true, false},       {"fp16", nan, false, true, false},
        {"bf16", 1e38f, true, false, true},     {"bf16", 3.4e38f, true, true, true},    {"bf16", -inf, false, true, false},
        {"int4", 65504.0f, false, false, true}, {"int4", 1e6f, false, true, true},      {"int4", nan, false, true, false},
        {"int4", 3.4e38f, true, true, true}};
    for_each_table([&](const KernelTable& table) {
        for (const Case& c : cases) {
            if (!offers(table, c.codec, 64, 64)) {
                continue;
            }
            INFO(std::string(table.name), " ", std::string(c.codec), " ", c.number, c.k ? " in k" : " in v");
            const LayerFormat f = format_of(c.codec, 64, 64);
            std::vector<float> k(64 * 8, 0.5f), v(64 * 8, 0.5f);
            (c.k ? k : v)[64 * 5 + 63] = c.number;
            (c.k ? k : v)[64 * 6 + 1] = c.number;
            Records records;
            const RecordId id = records.add(f.window_bytes);
            kvc::StoreParams p{&f, k.data(), v.data(), kvc::Dtype::f32, 64, 64, 8, records.at(id), false, 0, false};
            CHECK(table.store(p) == (c.refused ? 5 : -1));
            p.saturate = true;
            CHECK(table.store(p) == (c.saturates ? -1 : 5));
            if (c.saturates) {
                const Window w = read_window(table, f, records.at(id), KernelTable::Form::window);
                for (int i = 0; i < 64 * 8; ++i) {
                    REQUIRE(std::isfinite(w.k[size_t(i)]));
                    REQUIRE(std::isfinite(w.v[size_t(i)]));
                }
            }
        }
    });
}

TEST_CASE("read: keys or values alone are the same numbers") {
    for_each_table([](const KernelTable& table) {
        for (const std::string& codec : grid_codecs()) {
            INFO(std::string(table.name), " ", std::string(codec));
            if (!offers(table, codec, 64, 128)) {
                continue;
            }
            Head head(table, codec, 64, 128, 1);
            const auto item = head.item_of(head.sinks() + page_tokens, head.format().lossless ? 0 : 1);
            const LayerFormat& f = head.format();
            const bool coded = item->item.n_coded > 0;
            const std::byte* record = head.records().at((coded ? item->item.coded : item->item.window)->record);
            const auto form = coded ? KernelTable::Form::codes : KernelTable::Form::window;
            const Window both = read_window(table, f, record, form);
            Window alone{std::vector<float>(both.k.size()), std::vector<float>(both.v.size())};
            table.read(f, form, record, alone.k.data(), nullptr);
            table.read(f, form, record, nullptr, alone.v.data());
            CHECK(alone.k == both.k);
            CHECK(alone.v == both.v);
        }
    });
}
