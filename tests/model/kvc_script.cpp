// kvc_script: makes, runs, checks and shrinks operation scripts (docs/SCRIPTS.md).
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "tests/model/generate.h"
#include "tests/model/generate_all.h"
#include "tests/model/model_run.h"
#include "tests/model/replay_files.h"

namespace {

using namespace kvc_scripts;

const char* const usage =
    "kvc_script generate SEED [operations=N] [large=1]        print a random script that the reference model understands\n"
    "kvc_script generate SEED all=1 [operations=N]            print one over all that scripts can say; the library gives the statuses\n"
    "kvc_script scripts FOLDER FIRST_SEED N                   write N such scripts, FOLDER/000001.txt and so on, named by their seeds\n"
    "kvc_script abi                                           print what the library says of its structs and enums\n"
    "kvc_script record FILE [target=T] [threads=N]            print the script with the statuses that the library gives\n"
    "kvc_script run FILE [target=T] [threads=N] [trace=1]     run it, check the expected statuses, print the SHA-256\n"
    "kvc_script replay [target=T] [threads=N] FILE...         the same of many: their digests, or what went otherwise\n"
    "kvc_script check FILE [target=T] [threads=N]             run it against the reference model as well\n"
    "kvc_script shrink FILE [target=T] [threads=N]            print the smallest script that still differs from the model\n"
    "kvc_script soak FIRST_SEED N [target=T] [large=1]        check N random scripts; stop at the first difference\n"
    "FILE may be - for standard input.\n";

int run(const Script& script, const RunOptions& options, bool trace) {
    Replay replay(options);
    ScriptDigest digest;
    for (size_t i = 0; i < script.size(); ++i) {
        const Outcome outcome = replay.run(script[i]);
        digest.add(outcome);
        if (trace) std::printf("%-8s %s  %s\n", status_word(outcome.status).c_str(), print(script[i]).c_str(), outcome.message.c_str());
        if (!is_expected(script[i].expected, outcome.status)) {
            std::fprintf(stderr, "operation %zu: %s\n  answered %s: %s\n", i + 1, print(script[i]).c_str(),
                         status_word(outcome.status).c_str(), outcome.message.c_str());
            return 1;
        }
    }
    std::printf("%s\n", digest.hex().c_str());
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

int write_scripts(const std::string& folder, uint64_t first, int64_t n, int64_t operations) {
    for (uint64_t seed = first; seed < first + static_cast<uint64_t>(n); ++seed) {
        char name[32];
        std::snprintf(name, sizeof name, "/%06llu.txt", static_cast<unsigned long long>(seed));
        std::ofstream file(folder + name);
        file << print(generate_all(seed, operations));
        if (!file.flush()) throw std::runtime_error("cannot write " + folder + name);
    }
    return 0;
}

int print_abi() {
    std::vector<char> text(static_cast<size_t>(kvc_abi_describe(nullptr, 0)));
    kvc_abi_describe(text.data(), static_cast<int64_t>(text.size()));
    return std::fputs(text.data(), stdout) < 0;
}

int dispatch(const std::vector<std::string>& words) {
    if (words.size() == 1 && words[0] == "abi") return print_abi();
    if (words.size() < 2) throw std::runtime_error(usage);
    if (words[0] == "replay") return replay_files({words.begin() + 1, words.end()}, stdout, stderr);
    std::string line = "options";
    for (const std::string& word : words)
        if (word.find('=') != std::string::npos) line += " " + word;
    const Operation arguments = parse(line).at(0);
    const RunOptions options{arguments.word("target"), arguments.number("threads")};
    const GenerateOptions generate_options{arguments.number("operations", 60), arguments.number("large") != 0};
    if (words[0] == "generate" && arguments.number("all") != 0)
        return std::fputs(print(generate_all(std::stoull(words[1]), generate_options.operations)).c_str(), stdout) < 0;
    if (words[0] == "scripts" && words.size() > 3)
        return write_scripts(words[1], std::stoull(words[2]), std::stoll(words[3]), generate_options.operations);
    if (words[0] == "record") return std::fputs(print(record(load(words[1]), options)).c_str(), stdout) < 0;
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
