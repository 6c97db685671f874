#include "core/cache/snapshot_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cache/snapshot.h"

namespace kvc {
namespace {

constexpr int64_t transfer_bytes_limit = int64_t{1} << 30;  // of one call; some systems stop at 2^31

Status refused(const char* what, const std::string& path, int error) {
    return fail(Code::io, "snapshot: cannot ", what, " ", path, ": ", std::strerror(error));
}

class File {
public:
    explicit File(int descriptor) : descriptor_(descriptor) {}
    ~File() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    int get() const { return descriptor_; }
    bool open() const { return descriptor_ >= 0; }
    // False with errno; the descriptor is gone in any case.
    bool close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

private:
    int descriptor_;
};

int open_file(const std::string& path, int flags) {
    int descriptor;
    do {
        descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    } while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

bool write_all(int descriptor, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(descriptor, bytes.data(), std::min<size_t>(bytes.size(), size_t(transfer_bytes_limit)));
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) bytes = bytes.subspan(size_t(n));
    }
    return true;
}

// Fewer than asked for if the file ends; -1 with errno.
int64_t read_up_to(int descriptor, std::byte* out, int64_t bytes) {
    int64_t done = 0;
    while (done < bytes) {
        const ssize_t n = ::read(descriptor, out + done, size_t(std::min(bytes - done, transfer_bytes_limit)));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        done += n;
    }
    return done;
}

bool sync_file(int descriptor) {
    int result;
    do {
        result = ::fsync(descriptor);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

// A name beside the file that no other call in this process, and no other process, uses.
std::string temporary_name(const std::string& path) {
    static std::atomic<int64_t> calls{0};
    return path + ".tmp." + std::to_string(getpid()) + "." + std::to_string(calls++);
}

Status write_and_rename(const std::string& path, const std::string& temporary, std::span<const std::byte> bytes) {
    File file(open_file(temporary, O_WRONLY | O_CREAT | O_EXCL));
    if (!file.open()) return refused("create", temporary, errno);
    const bool written = write_all(file.get(), bytes) && sync_file(file.get());
    const int error = errno;
    if (written && file.close() && ::rename(temporary.c_str(), path.c_str()) == 0) return {};
    const Status status = refused("write", path, written ? errno : error);
    ::unlink(temporary.c_str());
    return status;
}

}  // namespace

Status replace_file(const char* path, std::span<const std::byte> bytes) {
    const std::string name = path, temporary = temporary_name(name);
    const size_t slash = name.rfind('/');
    const std::string folder_name = slash == std::string::npos ? "." : name.substr(0, slash + 1);
    // Opened first: if the folder cannot be synchronized, that is known before anything is replaced.
    const File folder(open_file(folder_name, O_RDONLY | O_DIRECTORY));
    if (!folder.open()) return refused("open the folder of", name, errno);
    KVC_TRY(write_and_rename(name, temporary, bytes));
    // The name is on its way; a file system that cannot wait for it (EINVAL) gives no more.
    if (!sync_file(folder.get()) && errno != EINVAL) return refused("synchronize the folder of", name, errno);
    return {};
}

Result<FileBytes> read_snapshot_file(const char* path) {
    const File file(open_file(path, O_RDONLY | O_NONBLOCK));
    if (!file.open()) return refused("open", path, errno);
    struct stat facts = {};
    if (::fstat(file.get(), &facts) != 0) return refused("read", path, errno);
    if (!S_ISREG(facts.st_mode)) return fail(Code::io, "snapshot: cannot read ", path, ": it is no file");
    std::byte header[snapshot_header_bytes];
    const int64_t begun = read_up_to(file.get(), header, snapshot_header_bytes);
    if (begun < 0) return refused("read", path, errno);
    Result<int64_t> total = check_snapshot_header({header, size_t(begun)});
    if (!total.ok()) return total.status();
    if (*total != facts.st_size) {
        return fail(Code::corrupt, "snapshot: it has ", *total, " bytes, the file ", path, " has ", int64_t(facts.st_size));
    }
    FileBytes out = {std::unique_ptr<std::byte[]>(new std::byte[size_t(*total)]), *total};
    std::copy_n(header, begun, out.data.get());
    const int64_t rest = read_up_to(file.get(), out.data.get() + begun, *total - begun);
    if (rest < 0) return refused("read", path, errno);
    if (rest != *total - begun) return fail(Code::io, "snapshot: ", path, " became shorter while it was read");
    return out;
}

}  // namespace kvc
