// kvc_script: makes, runs, checks and shrinks operation scripts (docs/SCRIPTS.md).
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "tests/model/generate.h"
#include "tests/model/model_run.h"

namespace {

using namespace kvc_scripts;

const char* const usage =
    "kvc_script generate SEED [operations=N] [large=1]        print a random script\n"
    "kvc_script run FILE [target=T] [threads=N] [trace=1]     run it, check the expected statuses, print the SHA-256\n"
    "kvc_script check FILE [target=T] [threads=N]             run it against the reference model as well\n"
    "kvc_script shrink FILE [target=T] [threads=N]            print the smallest script that still differs from the model\n"
    "kvc_script soak FIRST_SEED N [target=T] [large=1]        check N random scripts; stop at the first difference\n"
    "FILE may be - for standard input.\n";

Script load(const std::string& path) {
    std::ostringstream text;
    if (path == "-") {
        text << std::cin.rdbuf();
    } else {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("cannot read " + path);
        text << file.rdbuf();
    }
    return parse(text.str());
}

int run(const Script& script, const RunOptions& options, bool trace) {
    Replay replay(options);
    for (size_t i = 0; i < script.size(); ++i) {
        const Outcome outcome = replay.run(script[i]);
        if (trace) std::printf("%-8s %s  %s\n", status_word(outcome.status).c_str(), print(script[i]).c_str(), outcome.message.c_str());
        if (!is_expected(script[i].expected, outcome.status)) {
            std::fprintf(stderr, "operation %zu: %s\n  answered %s: %s\n", i + 1, print(script[i]).c_str(),
                         status_word(outcome.status).c_str(), outcome.message.c_str());
            return 1;
        }
    }
    std::printf("%s\n", replay.digest().c_str());
    return 0;
}

int check(const Script& script, const RunOptions& options) {
    const Comparison result = compare(script, options);
    if (result.fault.empty()) return std::printf("%s\n", result.digest.c_str()), 0;
    std::fprintf(stderr, "operation %zu: %s\n  %s\n", result.line + 1, print(script[result.line]).c_str(), result.fault.c_str());
    return 1;
}

int soak(uint64_t first, int64_t n, const GenerateOptions& generate_options, const RunOptions& options) {
    int64_t operations = 0, compared = 0;
    for (uint64_t seed = first; seed < first + static_cast<uint64_t>(n); ++seed) {
        const Script script = generate(seed, generate_options);
        const Comparison result = compare(script, options);
        operations += result.operations, compared += result.compared;
        if (result.fault.empty()) continue;
        std::printf("seed %llu, operation %zu: %s\n  %s\n", static_cast<unsigned long long>(seed), result.line + 1,
                    print(script[result.line]).c_str(), result.fault.c_str());
        std::fflush(stdout);
        const Script small = shrink_fault(script, options, 600);
        std::printf("%s  %s\n", print(small).c_str(), compare(small, options).fault.c_str());
        return 1;
    }
    std::printf("%lld scripts, %lld operations, %lld numbers compared: no difference\n", static_cast<long long>(n),
                static_cast<long long>(operations), static_cast<long long>(compared));
    return 0;
}

int dispatch(const std::vector<std::string>& words) {
    std::string line = "options";
    for (const std::string& word : words)
        if (word.find('=') != std::string::npos) line += " " + word;
    const Operation arguments = parse(line).at(0);
    const RunOptions options{arguments.word("target"), arguments.number("threads")};
    const GenerateOptions generate_options{arguments.number("operations", 60), arguments.number("large") != 0};
    if (words.size() < 2) throw std::runtime_error(usage);
    if (words[0] == "generate") return std::fputs(print(generate(std::stoull(words[1]), generate_options)).c_str(), stdout) < 0;
    if (words[0] == "run") return run(load(words[1]), options, arguments.number("trace") != 0);
    if (words[0] == "check") return check(load(words[1]), options);
    if (words[0] == "soak" && words.size() > 2) return soak(std::stoull(words[1]), std::stoll(words[2]), generate_options, options);
    if (words[0] != "shrink") throw std::runtime_error(usage);
    const Script script = load(words[1]);
    if (compare(script, options).fault.empty()) throw std::runtime_error("the script does not differ from the model");
    std::fputs(print(shrink_fault(script, options, 2000)).c_str(), stdout);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return dispatch({argv + 1, argv + argc});
    } catch (const std::exception& problem) {
        std::fprintf(stderr, "%s\n", problem.what());
        return 2;
    }
}
