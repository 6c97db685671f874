// The replayer's merges, step-downs and snapshots, and the scripts that are made of everything.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "doctest/doctest.h"
#include "tests/model/create_line.h"
#include "tests/model/generate_all.h"
#include "tests/model/replay_files.h"
#include "tests/model/shrink.h"

using namespace kvc_scripts;

namespace {

const RunOptions scalar{"scalar", 0};

// Every operation must answer as it says.
std::string digest_of(const Script& script, const RunOptions& options = scalar) {
    Replay replay(options);
    ScriptDigest digest;
    for (const Operation& operation : script) {
        const Outcome outcome = replay.run(operation);
        digest.add(outcome);
        CHECK_MESSAGE(is_expected(operation.expected, outcome.status), print(operation) << ": " << outcome.message);
    }
    return digest.hex();
}

std::string digest_of(const std::string& text) { return digest_of(parse(text)); }

// A sequence of 300 tokens at first_position 10.
std::string with_tokens(const std::string& create) {
    return "create growth=1 layers=2 kv_heads=2 q_heads=4 " + create +
           "\nseq a data=7 first_position=10\nbegin t a:300\nappend t\nappend t layer=1\ncommit t\n";
}

const std::string short_codec = "codec=k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=5,sinks=2";

std::string temporary_file(const std::string& name, const std::string& text) {
    const std::string path = (std::filesystem::temp_directory_path() / ("kvc_replay_" + name)).string();
    std::ofstream(path) << text;
    return path;
}

std::string read_back(std::FILE* file) {
    std::rewind(file);
    std::string text;
    for (int letter = std::fgetc(file); letter != EOF; letter = std::fgetc(file))
        text += static_cast<char>(letter);
    return text;
}

}  // namespace

TEST_CASE("merge: the clusters are those of the text, worked out once by another program") {
    ScriptShapes shapes;
    shapes.create(parse("create layers=2 kv_heads=2").at(0));
    const std::vector<int32_t> expected = {0,  1,  2,  3,  4,  -1, 4,  4,  8,  9,  8,  8,  12, 13, -1,
                                           -1, 16, 16, 18, 19, 20, 21, 22, 20, 24, 25, -1, 27, 28, 29};
    CHECK(merge_clusters(parse("merge a seed=3 first=2 recent=3 layers=1:2 heads=1:2").at(0), shapes, 7, 30) == expected);
    CHECK(merge_clusters(parse("merge a seed=3").at(0), shapes, 7, 30).size() == 4 * 30);
    CHECK(merge_clusters(parse("merge a seed=3").at(0), shapes, 7, -30).empty());
}

TEST_CASE("merge: every key changes the digest, and the report has all five numbers") {
    const std::string begin = with_tokens(short_codec);
    const std::string end = "\nbegin u a:1\nappend u\nattend u\nappend u layer=1\nattend u layer=1\ncommit u\ncounts a\nread a\n";
    const std::string plain = "merge a seed=1 first=8 recent=70";
    std::set<std::string> digests;
    const std::vector<std::string> lines = {plain,
                                            "merge a seed=2 first=8 recent=70",
                                            "merge a seed=1 first=40 recent=70",
                                            "merge a seed=1 first=8 recent=100",
                                            plain + " values_only=1",
                                            plain + " unbiased=1",
                                            plain + " layers=1:2",
                                            plain + " heads=0:1"};
    for (const std::string& line : lines)
        digests.insert(digest_of(begin + line + end));
    CHECK(digests.size() == lines.size());
    Replay replay(scalar);
    for (const Operation& operation : parse(begin))
        replay.run(operation);
    const Outcome merged = replay.run(parse(plain).at(0));
    REQUIRE(merged.numbers.size() == 5);
    CHECK(merged.bytes.size() == 40);
    CHECK(merged.numbers[4] > 0);
    CHECK(merged.numbers[4] < merged.numbers[0]);
    const std::vector<int64_t> counts = replay.run(parse("counts a").at(0)).numbers;
    CHECK(*std::max_element(counts.begin(), counts.end()) > 1);
}

TEST_CASE("step_down: every key changes the digest, and rungs tell what went down") {
    const std::string begin = with_tokens("codec=int8/int4/int2");
    const std::string end = "\nrungs a\nrungs a layer=1\nread a\nread a layer=1\n";
    std::set<std::string> digests;
    const std::vector<std::string> lines = {"step_down a", "step_down a rung=1", "step_down a rung=1 layers=0:1",
                                            "step_down a rung=1 recent=250", "step_down a budget_bytes=200000"};
    for (const std::string& line : lines)
        digests.insert(digest_of(begin + line + end));
    CHECK(digests.size() == lines.size());
    Replay replay(scalar);
    for (const Operation& operation : parse(begin))
        replay.run(operation);
    const Outcome down = replay.run(parse("step_down a rung=1").at(0));
    REQUIRE(down.numbers.size() == 4);
    CHECK(down.numbers[0] > 0);
    const std::vector<int64_t> rungs = replay.run(parse("rungs a").at(0)).numbers;
    CHECK(std::set<int64_t>(rungs.begin(), rungs.end()) == std::set<int64_t>{-1, 1});
}

TEST_CASE("export, import: what comes back goes on like what was exported, under the data and position that the line says") {
    const std::string begin = with_tokens(short_codec) + "fork b a length=290\nexport x a b\n";
    const auto end = [](const std::string& name) {
        return "\nbegin u " + name + ":3\nappend u\nattend u\nappend u layer=1\ncommit u\nread " + name + "\n";
    };
    Replay replay(scalar);
    for (const Operation& operation : parse(begin + "import x c d data=7 first_position=10\n"))
        REQUIRE(replay.run(operation).status == KVC_OK);
    CHECK(replay.run(parse("length c").at(0)).numbers == std::vector<int64_t>{310});
    CHECK(replay.run(parse("length d").at(0)).numbers == std::vector<int64_t>{290});
    CHECK(replay.first_position("d") == 10);
    CHECK(digest_of(begin + "import x c d data=7" + end("a")) == digest_of(begin + "import x c d data=7" + end("c")));
    CHECK(digest_of(begin + "import x c d data=8" + end("c")) != digest_of(begin + "import x c d data=7" + end("c")));
    CHECK(digest_of(begin + "import x c d" + end("a")) !=
          digest_of(with_tokens(short_codec) + "fork b a length=290\nexport x b a\nimport x c d" + end("a")));
    CHECK(digest_of(begin + "import x\nstats\n") != digest_of(begin + "import x c d\nstats\n"));
    CHECK(digest_of(begin + "export y\n") == digest_of(begin + "export y a b\n"));
}

TEST_CASE("import: a snapshot with one bit turned is refused wherever it is, and nothing comes of it") {
    Replay replay(scalar);
    for (const Operation& operation : parse(with_tokens(short_codec) + "export x a\n"))
        REQUIRE(replay.run(operation).status == KVC_OK);
    const int64_t bytes = replay.run(parse("export x a").at(0)).numbers.at(0);
    const std::vector<int64_t> before = replay.run(parse("stats").at(0)).numbers;
    for (int64_t at = 0; at < bytes; at += at < 200 ? 1 : 997) {
        const Outcome outcome = replay.run(parse("import x b flip=" + std::to_string(at)).at(0));
        CHECK_MESSAGE(outcome.status == KVC_E_CORRUPT, "byte " << at << ": " << outcome.message);
        CHECK(outcome.bytes.empty());
    }
    CHECK(replay.handle_of("b") == 0);
    CHECK(replay.run(parse("stats").at(0)).numbers == before);
    CHECK(replay.run(parse("import nowhere b").at(0)).status == KVC_E_CORRUPT);
    CHECK(replay.run(parse("import x b").at(0)).status == KVC_OK);  // the flips were made in copies
}

TEST_CASE("shrink: scripts of snapshots and merges become as small as they can") {
    const Fails imports = [](const Script& candidate) {
        try {
            Replay replay(scalar);
            for (const Operation& operation : candidate)
                if (const Outcome outcome = replay.run(operation); operation.verb == "import" && outcome.status == KVC_OK) return true;
        } catch (const std::exception&) {
        }
        return false;
    };
    const Script small =
        shrink(parse(with_tokens(short_codec) +
                     "merge a seed=900 recent=90\nexport x a\nimport x b data=30 flip=77 -> corrupt\nimport x c data=30\n"),
               imports);
    CHECK(print(small) == "create growth=1\nseq a\nexport x a\nimport x c\n");
    const Fails merges = [](const Script& candidate) {
        return std::any_of(candidate.begin(), candidate.end(),
                           [](const Operation& o) { return o.verb == "merge" && o.number("recent") >= 37; });
    };
    const Script merge = shrink(parse("merge a seed=900 recent=90 first=8\n"), merges);
    CHECK(print(merge) == "merge a recent=37\n");
}

TEST_CASE("generate all: scripts are equal for equal seeds, and what they say is so on every target, with threads or without") {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        const Script script = generate_all(seed, 40);
        CHECK(print(script) == print(generate_all(seed, 40)));
        CHECK(print(parse(print(script))) == print(script));
        CHECK(digest_of(script) == digest_of(script, {"scalar", 2}));
        for (int64_t i = 0; i < kvc_target_count(); ++i)
            digest_of(script, {kvc_target_name(i), 0});
    }
}

TEST_CASE("generate all: every verb, status, preset, ladder and policy occurs") {
    std::set<std::string> verbs, statuses, codecs, policies;
    for (uint64_t seed = 1; seed <= 300; ++seed)
        for (const Operation& operation : generate_all(seed, seed <= 100 ? 60 : 1)) {
            verbs.insert(operation.verb);
            statuses.insert(operation.expected);
            if (operation.verb != "create" || !operation.expected.empty()) continue;
            codecs.insert(operation.word("codec")), policies.insert(operation.word("policy"));
        }
    CHECK(verbs.size() == 36);
    for (const char* status : {"", "argument", "handle", "range", "order", "busy", "no_memory", "nonfinite", "unsupported", "corrupt"})
        CHECK_MESSAGE(statuses.count(status) > 0, status);
    for (const std::string& codec : listed_codecs())
        CHECK_MESSAGE(codecs.count(codec) > 0, codec);
    for (const std::string& ladder : listed_ladders())
        CHECK_MESSAGE(codecs.count(ladder) > 0, ladder);
    for (const std::string& policy : listed_policies())
        CHECK_MESSAGE(policies.count(policy) > 0, policy);
    for (int64_t i = 0; i < kvc_preset_count(); ++i)
        CHECK_MESSAGE(codecs.count(kvc_preset_name(i)) > 0, kvc_preset_name(i));
    for (int64_t i = 0; i < kvc_policy_count(); ++i)
        CHECK_MESSAGE(
            std::any_of(policies.begin(), policies.end(), [&](const std::string& p) { return p.rfind(kvc_policy_name(i), 0) == 0; }),
            kvc_policy_name(i));
}

TEST_CASE("record: writes the statuses that the library gives, and takes none for granted") {
    const Script script = record(parse("create growth=1\nseq a -> handle\nread b\ntruncate a length=9\n"), scalar);
    CHECK(print(script) == "create growth=1\nseq a\nread b -> handle\ntruncate a length=9 -> range\n");
}

TEST_CASE("replay files: a line a file, and what went otherwise is told with file and line while the others follow") {
    const std::string good = temporary_file("good", "create growth=1\nseq a\nlength a\n");
    const std::string bad = temporary_file("bad", "create growth=1\n\nseq a  # made\nlength a -> range\nseq b\n");
    const std::string broken = temporary_file("broken", "create growth=1\nbegin t a:x\n");
    std::FILE *out = std::tmpfile(), *problems = std::tmpfile();
    CHECK(replay_files({"target=scalar", good, bad, broken, "threads=1", good}, out, problems) == 1);
    const std::string line = digest_of(load(good)) + "  " + good + "\n";
    CHECK(read_back(out) == line + line);
    CHECK(read_back(problems) == bad + ":4: length a -> range: answered ok: \n" + broken + ": line 2: \"x\" is no number\n");
    std::fclose(out), std::fclose(problems);
    out = std::tmpfile();
    CHECK(replay_files({good}, out, stderr) == 0);
    std::fclose(out);
    CHECK_THROWS(replay_files({"target=scalar"}, stdout, stderr));
    for (const std::string& path : {good, bad, broken})
        std::filesystem::remove(path);
}
