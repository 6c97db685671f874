#include "tests/model/script.h"

#include <cctype>
#include <charconv>
#include <fstream>
#include <iostream>
#include <kvc.h>
#include <sstream>
#include <stdexcept>

namespace kvc_scripts {
namespace {

const std::string no_name;

int64_t parse_number(const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) throw std::runtime_error("\"" + text + "\" is no number");
    return value;
}

Operation parse_line(std::istringstream& words, const std::string& verb) {
    Operation operation;
    operation.verb = verb;
    std::string word;
    while (words >> word) {
        if (word == "->") {
            if (!(words >> operation.expected)) throw std::runtime_error("a status is missing after ->");
            if (words >> word) throw std::runtime_error("the status ends the line");
            break;
        }
        const size_t equals = word.find('='), colon = word.find(':');
        if (equals != std::string::npos)
            operation.arguments[word.substr(0, equals)] = word.substr(equals + 1);
        else if (colon != std::string::npos)
            operation.counts.emplace_back(word.substr(0, colon), parse_number(word.substr(colon + 1)));
        else
            operation.names.push_back(word);
    }
    return operation;
}

}  // namespace

int64_t Operation::number(const std::string& key, int64_t otherwise) const {
    return has(key) ? parse_number(arguments.at(key)) : otherwise;
}

uint64_t Operation::seed(const std::string& key) const { return static_cast<uint64_t>(number(key)); }

double Operation::real(const std::string& key) const { return has(key) ? std::stod(arguments.at(key)) : 0.0; }

std::string Operation::word(const std::string& key, const std::string& otherwise) const {
    return has(key) ? arguments.at(key) : otherwise;
}

std::pair<int64_t, int64_t> Operation::range(const std::string& key) const {
    if (!has(key)) return {0, 0};
    const std::string& text = arguments.at(key);
    const size_t colon = text.find(':');
    if (colon == std::string::npos) throw std::runtime_error(key + "=" + text + ": expected begin:end");
    return {parse_number(text.substr(0, colon)), parse_number(text.substr(colon + 1))};
}

std::vector<int64_t> Operation::list(const std::string& key) const {
    std::vector<int64_t> numbers;
    std::istringstream items(word(key));
    for (std::string item; std::getline(items, item, ',');)
        numbers.push_back(parse_number(item));
    return numbers;
}

const std::string& Operation::name(size_t index) const { return index < names.size() ? names[index] : no_name; }

Operation& Operation::set(const std::string& key, const std::string& value) {
    arguments[key] = value;
    return *this;
}

Operation& Operation::set(const std::string& key, int64_t value) { return set(key, std::to_string(value)); }

Script parse(const std::string& text) {
    Script script;
    std::istringstream lines(text);
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        std::istringstream words(line.substr(0, line.find('#')));
        std::string verb;
        if (!(words >> verb)) continue;
        try {
            script.push_back(parse_line(words, verb));
            script.back().line = number;
        } catch (const std::exception& problem) {
            throw std::runtime_error("line " + std::to_string(number) + ": " + problem.what());
        }
    }
    return script;
}

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

std::string print(const Operation& operation) {
    std::string line = operation.verb;
    for (const std::string& name : operation.names)
        line += " " + name;
    for (const auto& [name, count] : operation.counts)
        line += " " + name + ":" + std::to_string(count);
    for (const auto& [key, value] : operation.arguments)
        line += " " + key + "=" + value;
    if (!operation.expected.empty()) line += " -> " + operation.expected;
    return line;
}

std::string print(const Script& script) {
    std::string text;
    for (const Operation& operation : script)
        text += print(operation) + "\n";
    return text;
}

std::string status_word(int32_t status) {
    std::string name = kvc_status_name(status);
    if (name == "KVC_OK") return "ok";
    if (name.rfind("KVC_E_", 0) == 0) name = name.substr(6);
    for (char& letter : name)
        letter = static_cast<char>(std::tolower(letter));
    return name;
}

bool is_expected(const std::string& expected, int32_t status) {
    std::istringstream words(expected.empty() ? "ok" : expected);
    for (std::string word; std::getline(words, word, '|');)
        if (word == status_word(status)) return true;
    return false;
}

}  // namespace kvc_scripts
