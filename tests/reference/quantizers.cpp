#include "tests/reference/quantizers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <sstream>
#include <stdexcept>

#include "tests/reference/sixteen_bits.h"

namespace kvc_reference {
namespace {

PartCodec parse_part(const std::string& text) {
    PartCodec part;
    std::istringstream words(text);
    for (std::string word; std::getline(words, word, '.');) {
        if (word == "f16" || word == "bf16")
            part.bf16 = word == "bf16";
        else if (word.rfind("int", 0) == 0)
            part.bits = std::stoi(word.substr(3));
        else if (word == "ch" || word == "tok")
            part.per_channel = word == "ch";
        else if (word == "rot")
            part.rotated = true;
        else if (word == "sym" || word == "ls")
            part.symmetric = true, part.least_squares = word == "ls";
        else if (word == "m8")
            part.m8 = true;
        else if (word == "clip0" && std::getline(words, word, '.'))
            part.clip = std::stod("0." + word);
        else if (word[0] == 'g')
            part.group = std::stoll(word.substr(1));
        else
            throw std::runtime_error("codec: unknown word " + word + " in " + text);
    }
    return part;
}

float half(double x) { return static_cast<float>(round_to_half(x)); }

// A scale is stored as fp16 and never as 0: the smallest number stands for it. The argument is an f32 result.
float stored_scale(float s) { return std::max(half(std::min(s, 65504.0f)), 0x1p-24f); }

struct Grid {
    float last, span, middle;
};

// Symmetric codes of "sym" leave the lowest one out and have 0 in the middle; "ls" uses all levels, half a step off 0.
Grid grid_of(const PartCodec& codec) {
    const auto levels = static_cast<float>(1 << codec.bits);
    if (!codec.symmetric) return {levels - 1, levels - 1, 0};
    return {levels - 1, levels / 2 - 1, codec.least_squares ? (levels - 1) / 2 : levels / 2};
}

float level(float x, const Grid& grid) { return std::nearbyint(std::clamp(x, 0.0f, grid.last)); }

// The sum that FORMATS.md fixes: element i to lane i mod 8, lanes folded 4, 2, 1.
template <typename Term>
float lane_sum(int64_t n, Term term) {
    std::array<float, 8> lane{};
    for (int64_t i = 0; i < n; ++i)
        lane[i % 8] += term(i);
    for (size_t width = 4; width > 0; width /= 2)
        for (size_t i = 0; i < width; ++i)
            lane[i] += lane[i + width];
    return lane[0];
}

struct Affine {
    float scale, zero;
};

// Min/max, clipped around the middle of the range, or symmetric.
Affine wanted(const PartCodec& codec, const Grid& grid, float low, float high) {
    const auto clip = static_cast<float>(codec.clip);
    if (codec.symmetric) return {std::max(high, -low) * clip / grid.span, 0.0f};
    if (clip < 1) {
        const float center = (low + high) * 0.5f, reach = (high - low) * 0.5f * clip;
        low = center - reach, high = center + reach;
    }
    return {(high - low) / grid.span, low};
}

// The 8-bit metadata of one tile: multiples of one fp16 pair.
void store_m8(std::vector<Affine>& channels) {
    float largest_scale = 0, largest_zero = 0;
    for (const Affine& a : channels)
        largest_scale = std::max(largest_scale, a.scale), largest_zero = std::max(largest_zero, std::fabs(a.zero));
    const float scale_unit = stored_scale(largest_scale / 255.0f), zero_unit = stored_scale(largest_zero / 127.0f);
    for (Affine& a : channels) {
        a.scale = std::clamp(std::ceil(a.scale / scale_unit - 0.25f), 1.0f, 255.0f) * scale_unit;
        a.zero = std::clamp(std::nearbyint(a.zero / zero_unit), -127.0f, 127.0f) * zero_unit;
    }
}

// Three rounds of least squares from the step that is best for a Gaussian.
float least_squares(const PartCodec& codec, const Grid& grid, const float* x, int64_t n) {
    static const std::map<int, float> gaussian = {{2, 0.9957f}, {3, 0.5860f}, {4, 0.3352f}, {8, 0.0308f}};
    const float rms = std::sqrt(lane_sum(n, [&](int64_t i) { return x[i] * x[i]; }) / static_cast<float>(n));
    if (rms == 0) return 0;
    float s = rms * gaussian.at(codec.bits);
    for (int round = 0; round < 3; ++round) {
        const float inverse = 1.0f / s;
        const auto fit = [&](int64_t i) { return level(x[i] * inverse + grid.middle, grid) - grid.middle; };
        const float product = lane_sum(n, [&](int64_t i) { return x[i] * fit(i); });
        const float square = lane_sum(n, [&](int64_t i) { return fit(i) * fit(i); });
        s = std::max(product / square, 0x1p-24f);
    }
    return stored_scale(s);
}

void code_element(const Grid& grid, const Affine& a, float x, size_t at, CodedPage* page) {
    const float divisor = a.scale == 0 ? 1.0f : a.scale;
    const float code = level((x - a.zero) / divisor + grid.middle, grid);
    page->code[at] = static_cast<uint8_t>(code);
    page->value[at] = (code - grid.middle) * a.scale + a.zero;
    page->scale[at] = a.scale;
    page->zero[at] = a.zero - grid.middle * a.scale;
}

void encode_channels(const PartCodec& codec, const Grid& grid, int64_t dim, const std::vector<const float*>& rows, CodedPage* page) {
    for (int64_t tile = 0; tile < page_tokens; tile += codec.group) {
        std::vector<Affine> channels;
        for (int64_t d = 0; d < dim; ++d) {
            float low = rows[tile][d], high = low;
            for (int64_t t = tile; t < tile + codec.group; ++t)
                low = std::min(low, rows[t][d]), high = std::max(high, rows[t][d]);
            channels.push_back(wanted(codec, grid, low, high));
        }
        if (codec.m8) store_m8(channels);
        for (Affine& a : channels)
            if (!codec.m8) a = {stored_scale(a.scale), half(a.zero)};
        for (int64_t t = tile; t < tile + codec.group; ++t)
            for (int64_t d = 0; d < dim; ++d)
                code_element(grid, channels[d], rows[t][d], static_cast<size_t>(t * dim + d), page);
    }
}

void encode_tokens(const PartCodec& codec, const Grid& grid, int64_t dim, const std::vector<const float*>& rows, CodedPage* page) {
    const int64_t n = codec.group ? codec.group : dim;
    for (int64_t t = 0; t < page_tokens; ++t)
        for (int64_t from = 0; from < dim; from += n) {
            const float* x = rows[t] + from;
            Affine a{};
            if (codec.least_squares) {
                a.scale = least_squares(codec, grid, x, n);
            } else {
                a = wanted(codec, grid, *std::min_element(x, x + n), *std::max_element(x, x + n));
                a = {stored_scale(a.scale), half(a.zero)};
            }
            for (int64_t i = 0; i < n; ++i)
                code_element(grid, a, x[i], static_cast<size_t>(t * dim + from + i), page);
        }
}

}  // namespace

const std::vector<DocumentedPreset>& documented_presets() {
    static const std::vector<DocumentedPreset> all = {
#include "documented_presets.inc"
    };
    return all;
}

CodecSpec parse_codec(const std::string& text) {
    const std::string name = text.empty() ? "int4" : text;
    const auto is_named = [&](const DocumentedPreset& preset) { return preset.name == name; };
    const auto preset = std::find_if(documented_presets().begin(), documented_presets().end(), is_named);
    std::istringstream fields(preset == documented_presets().end() ? text : preset->codec);
    CodecSpec spec;
    for (std::string field; std::getline(fields, field, ',');) {
        const size_t equals = field.find('=');
        const std::string key = field.substr(0, equals), value = field.substr(equals + 1);
        if (key == "k") spec.k = parse_part(value);
        if (key == "v") spec.v = parse_part(value);
        if (key == "window") spec.window = std::stoll(value);
        if (key == "sinks") spec.sinks = std::stoll(value);
    }
    return spec;
}

CodedPage encode(const PartCodec& codec, int64_t dim, const std::vector<const float*>& rows) {
    const auto elements = static_cast<size_t>(page_tokens * dim);
    CodedPage page;
    page.value.resize(elements);
    if (codec.bits == 16) {
        for (int64_t t = 0; t < page_tokens; ++t)
            std::copy_n(rows[t], dim, page.value.begin() + t * dim);
        return page;
    }
    page.scale.resize(elements), page.zero.resize(elements), page.code.resize(elements);
    page.last = (1 << codec.bits) - 1;
    if (codec.per_channel)
        encode_channels(codec, grid_of(codec), dim, rows, &page);
    else
        encode_tokens(codec, grid_of(codec), dim, rows, &page);
    return page;
}

void rotate_single(std::vector<float>& x) {
    const size_t block = x.size() & (~x.size() + 1);
    const auto norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(block)));
    for (size_t distance = 1; distance < block; distance *= 2)
        for (size_t i = 0; i < x.size(); ++i)
            if ((i & distance) == 0) {
                const float a = x[i], b = x[i + distance];
                x[i] = a + b, x[i + distance] = a - b;
            }
    for (float& value : x)
        value *= norm;
}

}  // namespace kvc_reference
