#include "tests/model/replay_files.h"

#include <stdexcept>

namespace kvc_scripts {
namespace {

// Empty: it went as it says.
std::string replay_file(const std::string& path, const RunOptions& options, std::string* out_digest) {
    try {
        Replay replay(options);
        ScriptDigest digest;
        for (const Operation& operation : load(path)) {
            const Outcome outcome = replay.run(operation);
            digest.add(outcome);
            if (is_expected(operation.expected, outcome.status)) continue;
            return path + ":" + std::to_string(operation.line) + ": " + print(operation) + ": answered " + status_word(outcome.status) +
                   ": " + outcome.message;
        }
        *out_digest = digest.hex();
        return "";
    } catch (const std::exception& problem) {
        return path + ": " + problem.what();
    }
}

}  // namespace

int replay_files(const std::vector<std::string>& words, std::FILE* out, std::FILE* problems) {
    std::string arguments = "options";
    std::vector<std::string> paths;
    for (const std::string& word : words) {
        const bool argument = word.rfind("target=", 0) == 0 || word.rfind("threads=", 0) == 0;
        if (argument)
            arguments += " " + word;
        else
            paths.push_back(word);
    }
    if (paths.empty()) throw std::runtime_error("replay: no file is named");
    const Operation given = parse(arguments).at(0);
    const RunOptions options{given.word("target"), given.number("threads")};
    int status = 0;
    for (const std::string& path : paths) {
        std::string digest;
        const std::string fault = replay_file(path, options, &digest);
        if (fault.empty())
            std::fprintf(out, "%s  %s\n", digest.c_str(), path.c_str());
        else
            std::fprintf(problems, "%s\n", fault.c_str()), status = 1;
    }
    return status;
}

}  // namespace kvc_scripts
