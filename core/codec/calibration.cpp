#include "core/codec/calibration.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

namespace kvc {
namespace {

constexpr std::string_view first_line = "kvc-calibration 1";

// One line after the other, numbered from 1, without its end.
class Lines {
public:
    explicit Lines(std::string_view text) : rest_(text) {}

    bool next(std::string_view* line) {
        if (rest_.empty()) return false;
        const size_t end = rest_.find('\n');
        *line = rest_.substr(0, end);
        rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
        if (!line->empty() && line->back() == '\r') line->remove_suffix(1);
        number_++;
        return true;
    }

    int64_t number() const { return number_; }

private:
    std::string_view rest_;
    int64_t number_ = 0;
};

class CalibrationParser {
public:
    CalibrationParser(std::string_view text, const std::string& file, int64_t layers) : lines_(text), file_(file), expected_(layers) {}

    Result<std::vector<CalibratedLayer>> parse() {
        std::string_view line;
        if (!lines_.next(&line)) return wrong("the file is empty; its first line must be '", std::string(first_line), "'");
        if (line != first_line) return wrong("the first line is not '", std::string(first_line), "'");
        while (lines_.next(&line)) {
            if (!line.empty() && line[0] != '#') KVC_TRY(parse_line(line));
        }
        if (!ended_) return wrong("the file stops after ", count(), " layers, without 'end ", expected_, "'");
        return layers_;
    }

private:
    template <class... Parts>
    Status wrong(const Parts&... parts) const {
        return fail(Code::argument, origin(), ": ", parts...);
    }

    std::string origin() const { return file_ + ":" + std::to_string(lines_.number()); }
    int64_t count() const { return int64_t(layers_.size()); }

    Status parse_line(std::string_view line) {
        if (ended_) return wrong("nothing but comments may follow 'end'");
        const std::string layer = "layer " + std::to_string(count()) + " ";
        if (line.substr(0, 4) == "end " || line == "end") return parse_end(line);
        if (line.substr(0, layer.size()) != layer) return wrong("expected '", layer, "CODEC' or 'end ", expected_, "'");
        if (count() == expected_) return wrong("layer ", count(), " of a cache with ", expected_, " layers");
        const std::string_view text = line.substr(layer.size());
        const Result<CodecPair> codec = parse_codec(text);
        if (!codec.ok()) return fail(codec.status().code, origin(), ": ", codec.status().message);
        layers_.push_back({std::string(text), origin()});
        return {};
    }

    Status parse_end(std::string_view line) {
        if (line != "end " + std::to_string(count())) return wrong("after ", count(), " layers comes 'end ", count(), "'");
        if (count() != expected_) return wrong(count(), " layers, but the cache has ", expected_);
        ended_ = true;
        return {};
    }

    Lines lines_;
    std::string file_;
    int64_t expected_;
    bool ended_ = false;
    std::vector<CalibratedLayer> layers_;
};

struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

Result<std::vector<CalibratedLayer>> parse_calibration(std::string_view text, const std::string& file, int64_t layers) {
    return CalibrationParser(text, file, layers).parse();
}

Result<std::vector<CalibratedLayer>> read_calibration(const std::string& path, int64_t layers) {
    const std::string what = "calibration '" + path + "'";
    // Asked before opening, which would wait for whoever writes into a pipe.
    std::error_code fault;
    const bool regular = std::filesystem::is_regular_file(path, fault);
    if (fault) return fail(Code::argument, what, ": ", fault.message());
    if (!regular) return fail(Code::argument, what, ": not a file");
    const std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "rb"));
    if (!file) return fail(Code::argument, what, ": ", std::strerror(errno));
    std::string text(size_t(calibration_bytes_limit) + 1, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
    if (std::ferror(file.get())) return fail(Code::argument, what, ": cannot be read");
    if (int64_t(text.size()) > calibration_bytes_limit) {
        return fail(Code::argument, what, ": longer than the ", calibration_bytes_limit, " bytes of any calibration");
    }
    return parse_calibration(text, path, layers);
}

}  // namespace kvc
