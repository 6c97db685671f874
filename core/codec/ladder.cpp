#include "core/codec/ladder.h"

#include <algorithm>

namespace kvc {
namespace {

bool loses_nothing(const CodecPair& pair) { return is_16_bit(pair.k.type) && is_16_bit(pair.v.type); }

// Digits only, without leading zeros; 0 if it is no age.
int64_t parse_age(std::string_view digits) {
    if (digits.empty() || digits.size() > 13 || digits[0] == '0') return 0;
    int64_t age = 0;
    for (const char c : digits) {
        if (c < '0' || c > '9') return 0;
        age = age * 10 + (c - '0');
    }
    return age <= age_limit ? age : 0;
}

bool says(std::string_view text, std::string_view word) { return text.find(word) != std::string_view::npos; }

// One of the lower rungs, and its age.
Status parse_rung(std::string_view text, Ladder* ladder) {
    const size_t at = text.rfind('@');
    const std::string_view codec = text.substr(0, at);
    int64_t age = 0;
    if (at != std::string_view::npos) {
        age = parse_age(text.substr(at + 1));
        if (age == 0) return fail(Code::argument, "codec: '", std::string(text), "' has no age from 1 to 2^40 behind its @");
    }
    if (says(codec, "window=") || says(codec, "sinks=")) {
        return fail(Code::argument, "codec: '", std::string(text), "': window and sinks are the first rung's");
    }
    Result<CodecPair> pair = parse_codec(codec);
    if (!pair.ok()) return pair.status();
    if (loses_nothing(*pair)) return fail(Code::argument, "codec: '", std::string(text), "' in 16 bits can only be the first rung");
    for (const int64_t earlier : ladder->ages) {
        if (age > 0 && age <= earlier)
            return fail(Code::argument, "codec: '", std::string(text), "' is not older than the rung above it, ", earlier);
    }
    ladder->rungs.push_back(*pair);
    ladder->ages.push_back(age);
    return {};
}

// Going down, no part gains bits: what was coded is not widened again.
Status check_bits(const std::vector<CodecPair>& rungs) {
    for (size_t r = 1; r < rungs.size(); r++) {
        for (const auto part : {&CodecPair::k, &CodecPair::v}) {
            const int above = bits_of((rungs[r - 1].*part).type), here = bits_of((rungs[r].*part).type);
            if (here > above) {
                return fail(Code::argument, "codec: rung ", int64_t(r), " of the ladder has ", here, " bits for ",
                            part == &CodecPair::k ? "k" : "v", ", the one above it ", above);
            }
        }
    }
    return {};
}

// All spans of a head live in one basis, so that coded parts of all rungs are rotated, or none.
Status check_basis(const std::vector<CodecPair>& rungs) {
    for (const auto part : {&CodecPair::k, &CodecPair::v}) {
        const Codec* first = nullptr;
        for (const CodecPair& rung : rungs) {
            if (is_16_bit((rung.*part).type)) continue;
            if (first && first->rotate != (rung.*part).rotate) {
                return fail(Code::unsupported, "codec: of the ladder's ", part == &CodecPair::k ? "k" : "v",
                            " some rungs are rotated (rot) and others are not");
            }
            first = &(rung.*part);
        }
    }
    return {};
}

}  // namespace

Result<Ladder> parse_ladder(std::string_view text) {
    const std::string_view top = text.substr(0, text.find('/'));
    Result<CodecPair> first = parse_codec(top);
    if (!first.ok()) return first.status();
    Ladder ladder = {{*first}, {0}};
    for (size_t at = top.size(); at < text.size();) {
        const size_t end = std::min(text.find('/', at + 1), text.size());
        if (ladder.rungs.size() == rung_limit)
            return fail(Code::argument, "codec: a ladder has at most ", int64_t(rung_limit), " rungs");
        KVC_TRY(parse_rung(text.substr(at + 1, end - at - 1), &ladder));
        at = end;
    }
    if (ladder.rungs.size() == 1) return ladder;
    if (is_16_bit(first->k.type) && first->k.type == CodeType::bf16)
        return fail(Code::unsupported, "codec: a ladder cannot begin at bf16, as codes are made of fp16 numbers");
    KVC_TRY(check_bits(ladder.rungs));
    KVC_TRY(check_basis(ladder.rungs));
    // 16-bit pages need neither window nor sinks for themselves; what they step down to does.
    CodecPair& shared = ladder.rungs[0];
    if (loses_nothing(shared) && !says(top, "window=")) shared.window = ladder.rungs[1].window;
    if (loses_nothing(shared) && !says(top, "sinks=")) shared.sinks = ladder.rungs[1].sinks;
    for (CodecPair& rung : ladder.rungs) {
        rung.window = shared.window;
        rung.sinks = shared.sinks;
    }
    return ladder;
}

std::string format_ladder(const Ladder& ladder) {
    std::string text = format_codec(ladder.rungs[0]);
    for (size_t r = 1; r < ladder.rungs.size(); r++) {
        const std::string rung = format_codec(ladder.rungs[r]);
        text += "/" + rung.substr(0, rung.find(",window="));
        if (ladder.ages[r] > 0) text += "@" + std::to_string(ladder.ages[r]);
    }
    return text;
}

}  // namespace kvc
