#include "core/codec/calibration.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/codec/ladder.h"

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
        const Result<Ladder> codec = parse_ladder(text);
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

// A descriptor that no child process inherits, and that does not wait for whoever writes into a pipe.
class ReadOnlyFile {
public:
    explicit ReadOnlyFile(const std::string& path) {
        do {
            descriptor_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        } while (descriptor_ < 0 && errno == EINTR);
    }
    ~ReadOnlyFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    ReadOnlyFile(const ReadOnlyFile&) = delete;
    ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;

    int get() const { return descriptor_; }

    // False with errno. A file that became shorter gives what is left.
    bool read(std::string* out) const {
        size_t done = 0;
        while (done < out->size()) {
            const ssize_t n = ::read(descriptor_, out->data() + done, out->size() - done);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return false;
            if (n == 0) break;
            done += size_t(n);
        }
        out->resize(done);
        return true;
    }

private:
    int descriptor_;
};

}  // namespace

Result<std::vector<CalibratedLayer>> parse_calibration(std::string_view text, const std::string& file, int64_t layers) {
    return CalibrationParser(text, file, layers).parse();
}

Result<std::vector<CalibratedLayer>> read_calibration(const std::string& path, int64_t layers) {
    const std::string what = "calibration '" + path + "': ";
    const ReadOnlyFile file(path);
    if (file.get() < 0) return fail(Code::io, what, std::strerror(errno));
    struct stat facts = {};
    if (::fstat(file.get(), &facts) != 0) return fail(Code::io, what, std::strerror(errno));
    if (!S_ISREG(facts.st_mode)) return fail(Code::io, what, "it is no file");
    if (facts.st_size > calibration_bytes_limit) {
        return fail(Code::argument, what, int64_t(facts.st_size), " bytes, more than the ", calibration_bytes_limit,
                    " of any calibration");
    }
    std::string text(size_t(facts.st_size), '\0');
    if (!file.read(&text)) return fail(Code::io, what, std::strerror(errno));
    return parse_calibration(text, path, layers);
}

}  // namespace kvc
