// Snapshots in files: replaced as a whole, refused with the system's reason.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/snapshot/carrier.h"

using namespace kvc_snapshots;
namespace fs = std::filesystem;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=int4";

// A folder of its own that goes away with the test.
struct Folder {
    fs::path path = fs::temp_directory_path() / ("kvc_snapshot_" + std::to_string(getpid()));
    Folder() { fs::create_directories(path); }
    ~Folder() { fs::remove_all(path); }
    std::string file(const char* name) const { return (path / name).string(); }
    size_t files() const { return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator())); }
};

Bytes content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::string& path, const Bytes& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

kvc_status save(const Session& session, const std::string& path, std::string* message = nullptr) {
    kvc_error error = {sizeof error, 0, ""};
    const kvc_status status = kvc_snapshot_save(session.replay.cache(), nullptr, 0, path.c_str(), &error);
    if (message) *message = error.message;
    return status;
}

kvc_status load(const Session& session, const std::string& path, kvc_seq* seq, std::string* message = nullptr) {
    kvc_error error = {sizeof error, 0, ""};
    const kvc_status status = kvc_snapshot_load(session.replay.cache(), path.c_str(), seq, 1, nullptr, &error);
    if (message) *message = error.message;
    return status;
}

}  // namespace

TEST_CASE("snapshot files: what was saved is what export gives; it replaces an older file and comes back") {
    const Folder folder;
    const std::string path = folder.file("a.kvcs");
    Session session(shape), copy(shape);
    session.ok("seq a data=3");
    session.feed("a", 100, 64);
    REQUIRE(save(session, path) == KVC_OK);
    session.feed("a", 100, 64);
    REQUIRE(save(session, path) == KVC_OK);
    CHECK(content(path) == exported(session, {"a"}));
    CHECK(folder.files() == 1);
    struct stat facts = {};
    REQUIRE(stat(path.c_str(), &facts) == 0);
    CHECK((facts.st_mode & 0777) == 0600);
    kvc_seq seq = 0;
    REQUIRE(load(copy, path, &seq) == KVC_OK);
    copy.replay.adopt("a", seq, session.replay, "a");
    CHECK(copy.feed("a", 80, 64) == session.feed("a", 80, 64));
    CHECK(copy.stored("a") == session.stored("a"));
}

TEST_CASE("snapshot files: what cannot be written leaves the old file and nothing beside it") {
    const Folder folder;
    const std::string path = folder.file("a.kvcs");
    Session session(shape);
    session.ok("seq a data=3");
    session.feed("a", 100, 64);
    std::string message;
    CHECK(save(session, folder.file("missing/a.kvcs"), &message) == KVC_E_IO);
    CHECK(message.find("missing/a.kvcs") != std::string::npos);
    fs::create_directories(path);  // a folder in the way of the rename
    write(folder.file("a.kvcs/kept"), {1});
    CHECK(save(session, path, &message) == KVC_E_IO);
    CHECK(folder.files() == 1);
    CHECK(kvc_snapshot_save(session.replay.cache(), nullptr, 0, nullptr, nullptr) == KVC_E_ARGUMENT);
    CHECK(save(session, "") == KVC_E_ARGUMENT);
    if (fs::exists("/dev/full") && access("/dev", W_OK) != 0) CHECK(save(session, "/dev/full") == KVC_E_IO);
}

TEST_CASE("snapshot files: what is no whole snapshot is refused, and nothing is made") {
    const Folder folder;
    const std::string path = folder.file("a.kvcs");
    Session session(shape);
    session.ok("seq a data=3");
    session.feed("a", 100, 64);
    REQUIRE(save(session, path) == KVC_OK);
    const Bytes good = content(path);
    kvc_seq seq = 77;
    std::string message;
    CHECK(load(session, folder.file("none"), &seq, &message) == KVC_E_IO);
    CHECK(message.find("none") != std::string::npos);
    CHECK(load(session, folder.path.string(), &seq) == KVC_E_IO);
    REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
    CHECK(load(session, folder.file("pipe"), &seq) == KVC_E_IO);  // and does not wait for a writer
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{8}, size_t{39}, size_t{40}, good.size() / 2, good.size() - 1}) {
        CAPTURE(bytes);
        write(path, Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(bytes)));
        CHECK(load(session, path, &seq) == KVC_E_CORRUPT);
    }
    Bytes longer = good;
    longer.push_back(0);
    write(path, longer);
    CHECK(load(session, path, &seq) == KVC_E_CORRUPT);
    Bytes huge(good.begin(), good.begin() + 40);  // a header that promises what the file does not have
    write(path, huge);
    CHECK(load(session, path, &seq) == KVC_E_CORRUPT);
    CHECK((seq == 77 && session.stats()[8] == 1));
    write(path, good);
    CHECK(load(session, path, &seq) == KVC_OK);
}
