// The language of operation scripts (docs/SCRIPTS.md): one operation a line, as text and as data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace kvc_scripts {

struct Operation {
    std::string verb;
    std::vector<std::string> names;                       // sequences and steps, in the order of the line
    std::vector<std::pair<std::string, int64_t>> counts;  // name:number
    std::map<std::string, std::string> arguments;         // key=value
    std::string expected;                                 // after "->"; empty: ok
    int64_t line = 0;                                     // of the text that it was parsed from

    bool has(const std::string& key) const { return arguments.count(key) > 0; }
    int64_t number(const std::string& key, int64_t otherwise = 0) const;
    uint64_t seed(const std::string& key) const;
    double real(const std::string& key) const;  // 0 if absent
    std::string word(const std::string& key, const std::string& otherwise = "") const;
    std::pair<int64_t, int64_t> range(const std::string& key) const;  // "2:5"; 0, 0 if absent
    std::vector<int64_t> list(const std::string& key) const;          // "1,5,9"
    const std::string& name(size_t index) const;                      // empty if absent
    Operation& set(const std::string& key, const std::string& value);
    Operation& set(const std::string& key, int64_t value);
};

using Script = std::vector<Operation>;

// Throws std::runtime_error that names the line.
Script parse(const std::string& text);
// The script in a file, "-" for standard input. Throws std::runtime_error.
Script load(const std::string& path);
std::string print(const Operation& operation);
std::string print(const Script& script);

// "ok", "argument", ... as in kvc_status_name, without the prefix and in small letters.
std::string status_word(int32_t status);
// Is the status among the expected words ("ok|no_memory")?
bool is_expected(const std::string& expected, int32_t status);

}  // namespace kvc_scripts
