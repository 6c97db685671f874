// Coding of pages: nearest levels, stored scales, and error bounds that follow from the definition.
#include <cmath>
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/base/half.h"
#include "core/codec/canonical.h"

using kvc::Axis;
using kvc::CanonicalPart;
using kvc::Codec;
using kvc::page_tokens;

namespace {

using Page = std::vector<float>;

const char* const all_parts[] = {"int8.ch.g32.m8",
                                 "int4.ch.g32.m8",
                                 "int3.ch.g32.m8",
                                 "int2.ch.g32.m8.clip0.9",
                                 "int4.ch.g64.m8",
                                 "int4.ch.g32",
                                 "int2.ch.g32",
                                 "int4.ch.g64",
                                 "int8.ch.g32.sym",
                                 "int3.ch.g64.clip0.9",
                                 "int8.tok.sym",
                                 "int4.tok.ls",
                                 "int3.tok.ls",
                                 "int2.tok.ls",
                                 "int8.tok.ls",
                                 "int4.tok.g32",
                                 "int2.tok.g32",
                                 "int4.tok",
                                 "int3.tok.g16",
                                 "int2.tok.sym",
                                 "int4.tok.g16.ls",
                                 "int4.tok.clip0.9",
                                 "int4.tok.g16.sym.clip0.8"};

Codec codec_of(const std::string& part) { return kvc::parse_codec("k=" + part + ",v=f16")->k; }

Page page_of(int dim, const std::function<float(int, int)>& value) {
    Page x(size_t(page_tokens * dim));
    for (int t = 0; t < page_tokens; ++t) {
        for (int c = 0; c < dim; ++c) {
            x[size_t(t * dim + c)] = kvc::f32_from_f16(kvc::f16_from_f32(value(t, c)));
        }
    }
    return x;
}

Page gaussian_page(int dim, unsigned seed, float size = 1.0f) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    return page_of(dim, [&](int, int c) { return size * (normal(random) + (c % 7 == 3 ? 5.0f : 0.0f)); });
}

struct Coded {
    CanonicalPart part;
    Page decoded;
};

std::unique_ptr<Coded> coded(const Codec& codec, int dim, const Page& x) {
    auto out = std::make_unique<Coded>();
    out->decoded.resize(x.size());
    kvc::encode_part(codec, dim, x.data(), &out->part);
    kvc::decode_part(codec, dim, out->part, out->decoded.data());
    return out;
}

// The stored scale and zero point of one element, read by the documented order.
struct Stored {
    double step, zero;
};

Stored stored_of(const Codec& codec, int dim, const CanonicalPart& part, int t, int c) {
    size_t at = 0;
    if (codec.axis == Axis::channel) {
        at = size_t(t / codec.group * dim + c);
    } else {
        at = size_t(codec.group ? c / codec.group * page_tokens + t : t);
    }
    if (codec.m8) {
        const int tile = t / codec.group;
        return {part.scales[at] * double(kvc::f32_from_f16(part.super_scale[tile])),
                int8_t(part.zeros[at]) * double(kvc::f32_from_f16(part.super_zero[tile]))};
    }
    return {double(kvc::f32_from_f16(part.scales[at])), codec.symmetric ? 0.0 : double(kvc::f32_from_f16(part.zeros[at]))};
}

// Every code is a level nearest to its number among step * (code - middle) + zero, and decoding gives that level. The slack is
// the rounding of (x - zero) / step + middle: four operations, each 2^-24 of numbers up to 2 * last, or of x - zero.
void check_nearest(const Codec& codec, int dim, const Page& x, const Coded& out) {
    const int last = (1 << kvc::bits_of(codec.type)) - 1;
    const double middle = double(kvc::middle_of(codec));
    for (int t = 0; t < page_tokens; ++t) {
        for (int c = 0; c < dim; ++c) {
            const size_t i = size_t(t * dim + c);
            const Stored s = stored_of(codec, dim, out.part, t, c);
            const int code = out.part.codes[i];
            REQUIRE(code <= last);
            REQUIRE(std::isfinite(out.decoded[i]));
            const double level = s.step * (code - middle) + s.zero;
            REQUIRE(std::abs(double(out.decoded[i]) - level) <= 0x1p-23 * (std::abs(level) + std::abs(s.zero) + 256 * s.step));
            if (s.step == 0.0) {
                REQUIRE(x[i] == 0.0f);
                continue;
            }
            const double place = (double(x[i]) - s.zero) / s.step + middle;
            const double slack = 0x1p-22 * (std::abs(place) + last + 1);
            const double inside = std::min(std::max(place, 0.0), double(last));
            REQUIRE(std::abs(inside - code) <= 0.5 + slack);
        }
    }
}

}  // namespace

TEST_CASE("codec: every code is the nearest level of its stored scale and zero point") {
    for (const char* part : all_parts) {
        INFO(part);
        const Codec codec = codec_of(part);
        for (const int dim : {16, 64, 80, 128, 256}) {
            if (codec.axis == Axis::token && codec.group && dim % codec.group) {
                continue;
            }
            for (const float size : {1.0f, 1e-3f, 300.0f}) {
                const Page x = gaussian_page(dim, unsigned(dim), size);
                check_nearest(codec, dim, x, *coded(codec, dim, x));
            }
        }
    }
}

TEST_CASE("codec: all 65,536 fp16 values, those that a window can hold, pass through every codec without NaN or infinity") {
    std::vector<float> finite;
    for (int h = 0; h < 65536; ++h) {
        if (const float v = kvc::f32_from_f16(uint16_t(h)); std::isfinite(v)) {
            finite.push_back(v);
        }
    }
    REQUIRE(finite.size() == 63488);
    constexpr int dim = 256;
    for (const char* part : all_parts) {
        INFO(part);
        const Codec codec = codec_of(part);
        for (const size_t stride : {size_t{1}, size_t{257}}) {  // neighbours of like size together, and mixed
            for (size_t start = 0; start < finite.size(); start += size_t(page_tokens * dim)) {
                size_t n = start;
                const Page x = page_of(dim, [&](int, int) { return finite[n++ * stride % finite.size()]; });
                check_nearest(codec, dim, x, *coded(codec, dim, x));
            }
        }
    }
}

TEST_CASE("codec: min/max errors are at most half a step, and what rounding the scale and zero point adds") {
    // Unclipped min/max with fp16 metadata: the wanted step is d = (high - low) / last; both numbers are stored within 2^-11 of
    // themselves (or 2^-25 below the normal range). Levels reach from zero' to zero' + last * d', so the largest distance of a
    // number to its nearest level is max(d' / 2, |zero' - low|, |high - zero' - last d'|).
    for (const char* part : {"int4.ch.g32", "int2.ch.g32", "int4.ch.g64", "int8.ch.g32", "int4.tok.g32", "int2.tok.g32", "int4.tok"}) {
        INFO(part);
        const Codec codec = codec_of(part);
        constexpr int dim = 64;
        const double last = (1 << kvc::bits_of(codec.type)) - 1;
        const Page x = gaussian_page(dim, 5);
        const auto out = coded(codec, dim, x);
        const auto half_ulp = [](double v) { return std::max(std::abs(v) * 0x1p-11, 0x1p-25); };
        for (int t = 0; t < page_tokens; ++t) {
            for (int c = 0; c < dim; ++c) {
                double low = 1e9, high = -1e9;
                const int n = codec.group ? codec.group : dim;
                for (int i = 0; i < n; ++i) {
                    const int at = codec.axis == Axis::channel ? (t / n * n + i) * dim + c : t * dim + c / n * n + i;
                    low = std::min(low, double(x[size_t(at)]));
                    high = std::max(high, double(x[size_t(at)]));
                }
                const double d = (high - low) / last;
                const double bound = std::max((d + half_ulp(d)) / 2, half_ulp(low) + last * half_ulp(d)) * (1 + 1e-5);
                const size_t i = size_t(t * dim + c);
                REQUIRE(std::abs(double(out->decoded[i]) - double(x[i])) <= bound);
            }
        }
    }
}

TEST_CASE("codec: 8-bit scales are the wanted ones rounded by the documented rule, under the largest of the tile") {
    for (const char* part : {"int8.ch.g32.m8", "int4.ch.g32.m8", "int3.ch.g32.m8", "int2.ch.g32.m8", "int4.ch.g64.m8"}) {
        INFO(part);
        const Codec codec = codec_of(part);
        constexpr int dim = 80;
        const double last = (1 << kvc::bits_of(codec.type)) - 1;
        const Page x = gaussian_page(dim, 11);
        const auto out = coded(codec, dim, x);
        for (int tile = 0; tile < page_tokens / codec.group; ++tile) {
            const double unit = double(kvc::f32_from_f16(out->part.super_scale[tile]));
            const double zero_unit = double(kvc::f32_from_f16(out->part.super_zero[tile]));
            int largest = 0, farthest = 0;
            for (int c = 0; c < dim; ++c) {
                double low = 1e9, high = -1e9;
                for (int t = tile * codec.group; t < (tile + 1) * codec.group; ++t) {
                    low = std::min(low, double(x[size_t(t * dim + c)]));
                    high = std::max(high, double(x[size_t(t * dim + c)]));
                }
                const int scale = out->part.scales[tile * dim + c], zero = int8_t(out->part.zeros[tile * dim + c]);
                const double excess = scale - (high - low) / last / unit;
                if (scale > 1 && scale < 255) {
                    REQUIRE(excess >= -0.25 - 1e-3);
                    REQUIRE(excess < 0.75 + 1e-3);
                }
                REQUIRE(std::abs(zero - low / zero_unit) <= 0.5 + 0.07);  // 127 units may miss the largest by 2^-11 of it
                largest = std::max(largest, scale);
                farthest = std::max(farthest, std::abs(zero));
            }
            CHECK(largest >= 254);
            CHECK(farthest == 127);
        }
    }
}

TEST_CASE("codec: a constant group decodes exactly with fp16 metadata, and within half a zero step under m8") {
    for (const float value : {0.0f, 1.0f, -3.14f, 65504.0f, -65504.0f, 0x1p-24f, -0x1p-24f, 0x1.ffcp-15f}) {
        const Page x = page_of(64, [&](int, int) { return value; });
        for (const char* part : {"int4.ch.g32", "int2.ch.g64", "int8.tok", "int2.tok.g32", "int3.tok.g16"}) {
            INFO(part, " ", value);
            const auto out = coded(codec_of(part), 64, x);
            for (size_t i = 0; i < x.size(); ++i) {
                REQUIRE(out->decoded[i] == x[i]);
                REQUIRE(out->part.codes[i] == 0);
            }
        }
        for (const char* part : {"int8.ch.g32.m8", "int2.ch.g32.m8.clip0.9"}) {
            INFO(part, " ", value);
            const auto out = coded(codec_of(part), 64, x);
            // 127 * fp16(|value| / 127): the unit's rounding alone, 2^-11 relative, or 127 half steps below the normal range.
            const double bound = std::max(double(std::abs(value)) * 0x1p-10, 64 * 0x1p-24);
            for (size_t i = 0; i < x.size(); ++i) {
                REQUIRE(std::abs(double(out->decoded[i]) - double(value)) <= (value == 0.0f ? 0.0 : bound));
            }
        }
    }
}

TEST_CASE("codec: a token of zeros decodes to zeros in every symmetric codec") {
    const Page x = page_of(64, [](int t, int c) { return t % 2 ? float(c) - 31.5f : t % 4 ? -0.0f : 0.0f; });
    for (const char* part : {"int8.tok.sym", "int2.tok.sym", "int4.tok.ls", "int2.tok.ls", "int4.tok.g16.ls"}) {
        INFO(part);
        const auto out = coded(codec_of(part), 64, x);
        for (int t = 0; t < page_tokens; t += 2) {
            for (int c = 0; c < 64; ++c) {
                REQUIRE(out->decoded[size_t(t * 64 + c)] == 0.0f);
            }
        }
        check_nearest(codec_of(part), 64, x, *out);
    }
}

TEST_CASE("codec: the sign of a zero leaves no trace in codes and metadata") {
    for (const char* part : all_parts) {
        INFO(part);
        const Codec codec = codec_of(part);
        std::mt19937 random(3);
        std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
        const Page x = page_of(128, [&](int t, int c) { return (t + c) % 3 ? uniform(random) : 0.0f; });
        Page negative = x;
        for (size_t i = 0; i < x.size(); i += 2) {
            negative[i] = x[i] == 0.0f ? -0.0f : x[i];
        }
        CHECK(kvc::same_part(codec, 128, coded(codec, 128, x)->part, coded(codec, 128, negative)->part));
    }
}

TEST_CASE("codec: least squares is at least as good as the Gaussian step, and as good as the published quantizer predicts") {
    // Mean squared errors of the optimal uniform quantizer for a Gaussian: 0.1188, 0.03744, 0.01154 (Max, 1960). Fitting the scale
    // to each token can only lower the sum; 10 % is for the sampling of 64 tokens of 128 channels.
    const double expected[] = {0.1188, 0.03744, 0.01154};
    const char* parts[] = {"int2.tok.ls", "int3.tok.ls", "int4.tok.ls"};
    std::mt19937 random(17);
    std::normal_distribution<float> normal;
    const Page x = page_of(128, [&](int, int) { return normal(random); });
    for (int k = 0; k < 3; ++k) {
        INFO(parts[k]);
        const auto out = coded(codec_of(parts[k]), 128, x);
        double error = 0, energy = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            error += std::pow(double(out->decoded[i]) - double(x[i]), 2);
            energy += double(x[i]) * double(x[i]);
        }
        CHECK(error / energy < expected[k] * 1.1);
        CHECK(error / energy > expected[k] * 0.5);
    }
}

TEST_CASE("codec: coding what was decoded gives the same codes again when the scale is kept exactly") {
    // Two levels used at both ends: min/max of the decoded page is that of the page, so a second generation changes nothing.
    const Page x = page_of(64, [](int t, int c) { return float((t * 7 + c * 3) % 16) * 0.25f - 2.0f; });
    for (const char* part : {"int4.ch.g32", "int4.tok.g32", "int4.tok"}) {
        INFO(part);
        const auto first = coded(codec_of(part), 64, x);
        CHECK(first->decoded == x);
        const auto second = coded(codec_of(part), 64, first->decoded);
        CHECK(kvc::same_part(codec_of(part), 64, first->part, second->part));
    }
}
