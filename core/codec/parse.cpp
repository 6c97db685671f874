// The grammar of codec strings, in both directions, and the presets. docs/FORMATS.md describes it for people.
#include <cmath>
#include <iterator>
#include <optional>

#include "core/codec/codec.h"

namespace kvc {
namespace {

struct Preset {
    const char* name;
    const char* text;
};

constexpr Preset presets[] = {
#define KVC_PRESET(name, text) {name, text},
#include "core/codec/codecs.def"
#undef KVC_PRESET
};

struct TypeName {
    CodeType type;
    const char* name;
};

constexpr TypeName type_names[] = {
    {CodeType::f16, "f16"},
    {CodeType::bf16, "bf16"},
#define KVC_CODE_TYPE(name, bits, high, step) {CodeType::name, #name},
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
};

constexpr int64_t default_window = 128, default_sinks = 4;  // of strings that leave them out, if the codec loses anything

const char* preset_text(std::string_view name) {
    for (const Preset& preset : presets) {
        if (name == preset.name) {
            return preset.text;
        }
    }
    return nullptr;
}

template <class Entries>
std::string names_of(const Entries& entries) {
    std::string all;
    for (const auto& entry : entries) {
        all += all.empty() ? "" : " ";
        all += entry.name;
    }
    return all;
}

std::string preset_list() { return names_of(presets); }

// Cuts the text up to the separator off its front.
std::string_view take(std::string_view* rest, char separator) {
    const size_t at = rest->find(separator);
    const std::string_view word = rest->substr(0, at);
    *rest = at == std::string_view::npos ? std::string_view() : rest->substr(at + 1);
    return word;
}

// Digits only, without leading zeros, so that one number has one spelling.
std::optional<int64_t> parse_count(std::string_view digits) {
    if (digits.empty() || digits.size() > 9 || (digits.size() > 1 && digits[0] == '0')) {
        return std::nullopt;
    }
    int64_t value = 0;
    for (const char c : digits) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        value = value * 10 + (c - '0');
    }
    return value;
}

// The decimals of clip0.ddd, one to three of them, as a number of thousandths.
std::optional<int> parse_thousandths(std::string_view digits) {
    if (digits.empty() || digits.size() > 3) {
        return std::nullopt;
    }
    int value = 0;
    for (size_t i = 0; i < 3; ++i) {
        const char c = i < digits.size() ? digits[i] : '0';
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        value = value * 10 + (c - '0');
    }
    return value;
}

int thousandths_of(float clip) { return int(std::lround(clip * 1000.0f)); }

std::string format_part(const Codec& codec) {
    std::string text;
    for (const TypeName& entry : type_names) {
        text += entry.type == codec.type ? entry.name : "";
    }
    if (is_16_bit(codec.type)) {
        return text;
    }
    text += codec.axis == Axis::channel ? ".ch" : ".tok";
    text += codec.group ? ".g" + std::to_string(codec.group) : "";
    text += codec.rotate ? ".rot" : "";
    text += codec.fit == Fit::least_squares ? ".ls" : codec.symmetric ? ".sym" : "";
    text += codec.m8 ? ".m8" : "";
    if (const int clip = thousandths_of(codec.clip); clip != 1000) {
        std::string digits = std::to_string(1000 + clip).substr(1);
        digits.erase(digits.find_last_not_of('0') + 1);
        text += ".clip0." + digits;
    }
    return text;
}

// One part, such as int4.ch.g32.m8, word by word.
class PartParser {
public:
    PartParser(const char* part, std::string_view text) : part_(part), text_(text), rest_(text) {}

    Result<Codec> parse() {
        const std::string_view type = take(&rest_, '.');
        for (const TypeName& entry : type_names) {
            if (type == entry.name) {
                codec_.type = entry.type;
                known_type_ = true;
            }
        }
        if (!known_type_) {
            return wrong("unknown type '", std::string(type), "' (", names_of(type_names), ")");
        }
        while (!rest_.empty()) {
            if (Status status = parse_word(take(&rest_, '.')); !status.ok()) {
                return status;
            }
        }
        if (!text_.empty() && text_.back() == '.') {
            return wrong("ends in a dot");
        }
        if (!is_16_bit(codec_.type) && !has_axis_) {
            return wrong("needs ch (one scale for tokens of a channel) or tok (one scale for channels of a token)");
        }
        if (codec_.axis == Axis::channel && codec_.group == 0) {
            codec_.group = 32;
        }
        if (Status status = check_codec(codec_, part_); !status.ok()) {
            return status;
        }
        return codec_;
    }

private:
    template <class... Parts>
    Status wrong(const Parts&... parts) const {
        return fail(Code::argument, "codec: ", part_, "=", std::string(text_), ": ", parts...);
    }

    Status once(bool* seen, std::string_view word) {
        if (*seen) {
            return wrong("'", std::string(word), "' repeats or contradicts an earlier word");
        }
        *seen = true;
        return {};
    }

    Status parse_word(std::string_view word) {
        if (word == "ch" || word == "tok") {
            codec_.axis = word == "ch" ? Axis::channel : Axis::token;
            return once(&has_axis_, word);
        }
        if (word == "rot") {
            return once(&codec_.rotate, word);
        }
        if (word == "m8") {
            return once(&codec_.m8, word);
        }
        if (word == "sym" || word == "ls") {
            codec_.fit = word == "ls" ? Fit::least_squares : Fit::minmax;
            return once(&codec_.symmetric, word);
        }
        if (word == "clip0") {
            const std::optional<int> clip = parse_thousandths(take(&rest_, '.'));
            if (!clip || *clip == 0) {
                return wrong("clip is clip0.5 to clip0.999");
            }
            codec_.clip = float(*clip) / 1000.0f;
            return once(&has_clip_, "clip");
        }
        if (word.size() > 1 && word[0] == 'g') {
            if (const std::optional<int64_t> group = parse_count(word.substr(1)); group && *group > 0) {
                codec_.group = int(*group);
                return once(&has_group_, word);
            }
        }
        return wrong("unknown word '", std::string(word), "' (ch tok gN rot sym ls m8 clip0.N)");
    }

    const char* part_;
    std::string_view text_, rest_;
    Codec codec_;
    bool known_type_ = false, has_axis_ = false, has_group_ = false, has_clip_ = false;
};

// The comma-separated fields over what a preset has set.
class PairParser {
public:
    explicit PairParser(std::string_view text) : text_(text) {}

    Status parse_field(std::string_view field) {
        std::string_view value = field;
        const std::string_view key = take(&value, '=');
        if (key == "k" || key == "v") {
            KVC_TRY(once(key == "k" ? &k_ : &v_, field));
            Result<Codec> codec = PartParser(key == "k" ? "k" : "v", value).parse();
            if (!codec.ok()) {
                return codec.status();
            }
            (key == "k" ? pair.k : pair.v) = *codec;
            return {};
        }
        if (key != "window" && key != "sinks") {
            return fail(Code::argument, "codec: unknown field '", std::string(field), "' (a preset: ", preset_list(),
                        "; or k= v= window= sinks=)");
        }
        KVC_TRY(once(key == "window" ? &window_ : &sinks_, field));
        const std::optional<int64_t> count = parse_count(value);
        if (!count) {
            return fail(Code::argument, "codec: ", std::string(field), ": not a number of tokens");
        }
        (key == "window" ? pair.window : pair.sinks) = *count;
        return {};
    }

    Result<CodecPair> finish(bool preset) {
        if (!preset && (!k_ || !v_)) {
            return fail(Code::argument, "codec: '", std::string(text_), "' has no ", k_ ? "v=" : "k=");
        }
        const bool lossless = is_16_bit(pair.k.type) && is_16_bit(pair.v.type);
        if (!preset && !window_) {
            pair.window = lossless ? 0 : default_window;
        }
        if (!preset && !sinks_) {
            pair.sinks = lossless ? 0 : default_sinks;
        }
        if (Status status = check_codec_pair(pair); !status.ok()) {
            return status;
        }
        return pair;
    }

    CodecPair pair;

private:
    static Status once(bool* seen, std::string_view field) {
        if (*seen) {
            return fail(Code::argument, "codec: '", std::string(field), "' is given twice");
        }
        *seen = true;
        return {};
    }

    std::string_view text_;
    bool k_ = false, v_ = false, window_ = false, sinks_ = false;
};

}  // namespace

Result<CodecPair> parse_codec(std::string_view text) {
    PairParser parser(text);
    std::string_view rest = text;
    const char* preset = preset_text(text.substr(0, text.find(',')));
    if (preset) {
        take(&rest, ',');
        parser.pair = *parse_codec(preset);
    }
    if (text.empty() || text.back() == ',') {
        return fail(Code::argument, "codec: '", std::string(text), "' has an empty field (a preset: ", preset_list(),
                    "; or k= v= window= sinks=)");
    }
    while (!rest.empty()) {
        if (Status status = parser.parse_field(take(&rest, ',')); !status.ok()) {
            return status;
        }
    }
    return parser.finish(preset != nullptr);
}

std::string format_codec(const CodecPair& pair) {
    return "k=" + format_part(pair.k) + ",v=" + format_part(pair.v) + ",window=" + std::to_string(pair.window) +
           ",sinks=" + std::to_string(pair.sinks);
}

int preset_count() { return int(std::size(presets)); }

const char* preset_name(int index) { return index >= 0 && index < preset_count() ? presets[index].name : nullptr; }

}  // namespace kvc
