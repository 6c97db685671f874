// The witnesses themselves: SHA-256, 16-bit numbers, data, rotation, quantizers, attention and the visibility rule, against values
// worked out by hand or known from their definitions.
#include <algorithm>
#include <cmath>
#include <kvc.h>
#include <limits>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/reference/attention.h"
#include "tests/reference/quantizers.h"
#include "tests/reference/reference_model.h"
#include "tests/reference/sha256.h"
#include "tests/reference/sixteen_bits.h"
#include "tests/reference/test_data.h"

using namespace kvc_reference;

TEST_CASE("sha256: the vectors of FIPS 180-4") {
    CHECK(Sha256().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    Sha256 abc;
    abc.add("abc", 3);
    CHECK(abc.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    Sha256 million;
    const std::string piece(1000, 'a');
    for (int i = 0; i < 1000; ++i)
        million.add(piece.data(), piece.size());
    CHECK(million.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sixteen bits: every fp16 and bf16 number is a fixed point of its rounding") {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const double half = half_value(static_cast<uint16_t>(bits)), bfloat = bfloat_value(static_cast<uint16_t>(bits));
        if (std::isfinite(half)) CHECK(round_to_half(half) == half);
        if (std::isfinite(half)) CHECK(half_bits(half) == bits);
        if (std::isfinite(bfloat)) CHECK(bfloat_bits(round_to_bfloat(bfloat)) == bits);
    }
    CHECK(round_to_half(2049.0) == 2048.0);  // a tie, to even
    CHECK(round_to_half(2051.0) == 2052.0);
    CHECK(round_to_half(65519.0) == 65504.0);
    CHECK(std::isinf(round_to_half(65520.0)));
    CHECK(round_to_half(0x1p-25) == 0.0);
    CHECK(round_to_half(0x1.8p-24) == 0x1p-23);
}

TEST_CASE("test data: the numbers of docs/SCRIPTS.md") {
    CHECK(mix(0) == 0);
    CHECK(key(0, 0) == 0xe220a8397b1dcdafu);  // the first output of SplitMix64 from state 0
    CHECK(key(1, 2) == mix(1 + 3 * golden_ratio));
    int64_t least = 0, most = 0, sum = 0;
    for (uint64_t i = 0; i < 100000; ++i) {
        const int64_t n = bell(7, i);
        least = std::min(least, n), most = std::max(most, n), sum += n;
    }
    CHECK(least >= -131070);
    CHECK(most <= 131070);
    CHECK(std::llabs(sum) < 100000 * 1000);  // the standard deviation of the mean is about 120
    const Stream f32{5, 0, Kind::normal, Element::f32}, f16{5, 0, Kind::normal, Element::f16}, bf16{5, 0, Kind::normal, Element::bf16};
    for (float x : rows(f16, 0, Part::keys, 0, 10, 2, 32))
        CHECK(round_to_half(x) == x);
    for (float x : rows(bf16, 0, Part::keys, 0, 10, 2, 32))
        CHECK(round_to_bfloat(x) == x);
    const std::vector<float> all = rows(f32, 1, Part::values, 0, 3, 2, 8), last = rows(f32, 1, Part::values, 2, 1, 2, 8);
    CHECK(std::equal(last.begin(), last.end(), all.begin() + 32));
}

TEST_CASE("rotation: its own inverse, keeps lengths, and single precision agrees with exact") {
    for (int64_t dim : {16, 32, 64, 80, 96, 112, 128, 256}) {
        const std::vector<float> x = rows({3}, 0, Part::values, 0, 1, 1, dim);
        std::vector<double> exact(x.begin(), x.end());
        std::vector<float> single = x;
        rotate_exact(exact);
        rotate_single(single);
        double length = 0, rotated_length = 0;
        for (int64_t d = 0; d < dim; ++d) {
            length += double{x[d]} * x[d], rotated_length += exact[d] * exact[d];
            CHECK(std::fabs(exact[d] - single[d]) < 1e-6);
        }
        CHECK(rotated_length == doctest::Approx(length));
        rotate_exact(exact);
        for (int64_t d = 0; d < dim; ++d)
            CHECK(exact[d] == doctest::Approx(x[d]));
    }
    CHECK(rotation_block(80) == 16);
    CHECK(rotation_block(96) == 32);
    CHECK(rotation_block(256) == 256);
}

TEST_CASE("quantizers: a constant group is exact and a ramp gets every code") {
    const PartCodec kivi = parse_codec("kivi4").k;
    std::vector<std::vector<float>> data(64, std::vector<float>(16));
    std::vector<const float*> page;
    for (size_t t = 0; t < 64; ++t) {
        for (size_t d = 0; d < 16; ++d)
            data[t][d] = d == 0 ? 3.5f : static_cast<float>(t % 32) / 31 * 15;
        page.push_back(data[t].data());
    }
    const CodedPage coded = encode(kivi, 16, page);
    for (size_t t = 0; t < 64; ++t) {
        CHECK(coded.value[t * 16] == 3.5f);
        CHECK(coded.code[t * 16 + 1] == static_cast<uint8_t>(std::nearbyint(data[t][1])));
    }
}

// Half a step in the worst case, if the range is covered; the stored scale may be rounded down, which adds its shortfall.
TEST_CASE("quantizers: errors stay within half a step and the rounding of the stored scale and zero") {
    for (const char* text : {"k=int8.ch.g32.m8,v=int8.tok.rot.sym", "k=int4.ch.g32,v=int4.tok.g32", "k=int3.ch.g64.m8,v=int2.tok"}) {
        const CodecSpec spec = parse_codec(text);
        const std::vector<float> x = rows({11}, 0, Part::keys, 0, 64, 1, 64);
        std::vector<const float*> page;
        for (int64_t t = 0; t < 64; ++t)
            page.push_back(x.data() + t * 64);
        for (const PartCodec& codec : {spec.k, spec.v}) {
            const CodedPage coded = encode(codec, 64, page);
            double largest_step = 0;
            for (float step : coded.scale)
                largest_step = std::max(largest_step, double{step});
            const double last = (1 << codec.bits) - 1;
            const double shortfall =
                codec.m8 ? last * largest_step / 255 * 0.25 + 2.0 / 127 : last * largest_step * 0x1p-11 + 2 * 0x1p-11;
            for (size_t i = 0; i < x.size(); ++i)
                CHECK(std::fabs(coded.value[i] - x[i]) <= coded.scale[i] * 0.5 + shortfall);
        }
    }
}

TEST_CASE("attention: two tokens by hand") {
    const std::vector<float> q{1, 2}, k0{1, 0}, k1{0, 1}, v0{10, 0}, v1{0, 20};
    Query query;
    query.q = q.data(), query.k_dim = query.v_dim = 2;
    const auto token = [](const std::vector<float>& k, const std::vector<float>& v) {
        SeenToken seen;
        seen.k.value = k.data(), seen.v.value = v.data();
        return seen;
    };
    const std::vector<SeenToken> both{token(k0, v0), token(k1, v1)};
    const double p1 = std::exp(2.0) / (std::exp(1.0) + std::exp(2.0));
    Attention result = attend(query, both);
    CHECK(result.out[0] == doctest::Approx(10 * (1 - p1)));
    CHECK(result.out[1] == doctest::Approx(20 * p1));
    CHECK(result.lse == doctest::Approx(std::log(std::exp(1.0) + std::exp(2.0))));
    CHECK(result.out_bound[0] > 0);
    CHECK(result.out_bound[0] < 1e-3);

    query.has_sink = true, query.sink_logit = 3;
    result = attend(query, both);
    CHECK(result.p[0] + result.p[1] ==
          doctest::Approx((std::exp(1.0) + std::exp(2.0)) / (std::exp(1.0) + std::exp(2.0) + std::exp(3.0))));
    query.has_sink = false, query.soft_cap = 0.5;
    result = attend(query, both);
    CHECK(result.p[1] / result.p[0] == doctest::Approx(std::exp(0.5 * (std::tanh(4.0) - std::tanh(2.0)))));
    result = attend(query, {});
    CHECK(result.out == std::vector<double>{0, 0});
    CHECK(result.lse == -std::numeric_limits<double>::infinity());
}

TEST_CASE("visibility: the boundary F by table") {
    struct Case {
        int64_t sinks, window, query, first_fp16;
    };
    // F(i) = S + 64 floor(max(0, i + 1 - S - W) / 64)
    for (const Case& c :
         {Case{4, 128, 0, 4}, Case{4, 128, 194, 4}, Case{4, 128, 195, 68}, Case{4, 128, 258, 68}, Case{4, 128, 259, 132},
          Case{0, 0, 62, 0}, Case{0, 0, 63, 64}, Case{0, 0, 126, 64}, Case{0, 0, 127, 128}, Case{7, 1, 70, 7}, Case{7, 1, 71, 71}}) {
        LayerShape shape;
        shape.codec.sinks = c.sinks, shape.codec.window = c.window;
        LayerState layer;
        layer.origin = layer.base = c.sinks;
        CHECK(ReferenceModel::coded_end(shape, layer, c.query + 1) == c.first_fp16);
    }
}

TEST_CASE("model: a token is seen in 16 bits until its page falls behind the window, then as codes") {
    LayerShape shape;
    shape.codec = parse_codec("k=int4.ch.g32,v=int4.tok,window=64,sinks=2");
    ReferenceModel model({shape}, {}, 0, false);
    const int64_t id = model.create(0, 0);
    const auto add = [&](int64_t n) {
        int64_t step = 0;
        REQUIRE(model.begin({id}, {n}, false, false, &step) == KVC_OK);
        const int64_t from = model.find(id)->length;
        REQUIRE(model.append(step, 0, rows({1}, 0, Part::keys, from, n, 1, 16), rows({1}, 0, Part::values, from, n, 1, 16)) == KVC_OK);
        REQUIRE(model.commit(step, nullptr) == KVC_OK);
    };
    add(129);
    bool coded = true;
    model.read(id, 0, 0, true, 2, &coded);
    CHECK_FALSE(coded);
    CHECK(model.exact_floor(id) == 0);
    add(1);  // 130 = S + 64 + W
    model.read(id, 0, 0, true, 2, &coded);
    CHECK(coded);
    model.read(id, 0, 0, true, 65, &coded);
    CHECK(coded);
    model.read(id, 0, 0, true, 66, &coded);
    CHECK_FALSE(coded);
    model.read(id, 0, 0, true, 1, &coded);
    CHECK_FALSE(coded);
    CHECK(model.exact_floor(id) == 130);
    CHECK(model.truncate(id, 129, false) == KVC_E_RANGE);
    CHECK(model.truncate(id, 130, false) == KVC_OK);
}

TEST_CASE("model: what it calls a preset is what the library calls it") {
    for (int64_t i = 0; i < kvc_preset_count(); ++i) {
        char text[128];
        REQUIRE(kvc_codec_format(kvc_preset_name(i), text, sizeof text, nullptr) > 0);
        const CodecSpec mine = parse_codec(kvc_preset_name(i)), theirs = parse_codec(text);
        CHECK(mine.window == theirs.window);
        CHECK(mine.sinks == theirs.sinks);
        CHECK(mine.k.bits == theirs.k.bits);
        CHECK(mine.v.bits == theirs.v.bits);
        CHECK(mine.k.m8 == theirs.k.m8);
        CHECK(mine.v.least_squares == theirs.v.least_squares);
    }
}
