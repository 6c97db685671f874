// Snapshots in memory and in files.
#include "core/cache/snapshot.h"

#include <algorithm>

#include "capi/handles.h"
#include "core/cache/snapshot_file.h"

namespace kvc {
namespace {

struct Chosen {
    std::span<const int64_t> ids;
    bool all;
};

Result<Chosen> read_sequences(const char* what, const kvc_seq* seqs, int64_t n) {
    if (n < 0 || (n > 0 && !seqs)) return fail(Code::argument, what, ": n ", n, " without sequences");
    return Chosen{{seqs, size_t(n)}, !seqs};
}

// Without out the number is all that is wanted.
Status import(const char* what, Cache& cache, std::span<const std::byte> bytes, kvc_seq* out, int64_t capacity, int64_t* out_n) {
    Result<SnapshotDraft> draft = cache.read_snapshot(bytes);
    if (!draft.ok()) return draft.status();
    const int64_t n = int64_t(draft->sequences.size());
    if (out) {
        if (capacity < n) return fail(Code::argument, what, ": capacity ", capacity, ", the snapshot has ", n, " sequences");
        Result<std::vector<int64_t>> made = cache.import_snapshot(std::move(*draft));
        if (!made.ok()) return made.status();
        std::copy(made->begin(), made->end(), out);
    }
    if (out_n) *out_n = n;
    return {};
}

Status check_import(const char* what, const kvc_seq* out, int64_t capacity, const int64_t* out_n) {
    if (capacity < 0 || (capacity > 0 && !out)) return fail(Code::argument, what, ": capacity ", capacity, " without out");
    if (!out && !out_n) return fail(Code::argument, what, ": neither out nor out_n is given");
    return {};
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                               int64_t* out_written, kvc_error* err) {
    return with_cache("snapshot_export", cache, err, [&](Cache& c) -> Status {
        Result<Chosen> chosen = read_sequences("snapshot_export", seqs, n);
        if (!chosen.ok()) return chosen.status();
        if (!out_written) return fail(Code::argument, "snapshot_export: out_written is NULL");
        if (out_bytes < 0 || (out_bytes > 0 && !out))
            return fail(Code::argument, "snapshot_export: out_bytes ", out_bytes, " without out");
        Result<int64_t> written = c.export_snapshot(chosen->ids, chosen->all, [&](int64_t bytes) -> Result<std::byte*> {
            if (!out || out_bytes >= bytes) return static_cast<std::byte*>(out);
            return fail(Code::argument, "snapshot_export: out has ", out_bytes, " bytes, ", bytes, " are needed");
        });
        if (!written.ok()) return written.status();
        *out_written = *written;
        return {};
    });
}

kvc_status kvc_snapshot_import(kvc_cache* cache, const void* data, int64_t data_bytes, kvc_seq* out, int64_t capacity, int64_t* out_n,
                               kvc_error* err) {
    return with_cache("snapshot_import", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_import("snapshot_import", out, capacity, out_n));
        if (data_bytes < 0 || (data_bytes > 0 && !data)) {
            return fail(Code::argument, "snapshot_import: data_bytes ", data_bytes, " without data");
        }
        return import("snapshot_import", c, {static_cast<const std::byte*>(data), size_t(data_bytes)}, out, capacity, out_n);
    });
}

kvc_status kvc_snapshot_save(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, const char* path, kvc_error* err) {
    return with_cache("snapshot_save", cache, err, [&](Cache& c) -> Status {
        Result<Chosen> chosen = read_sequences("snapshot_save", seqs, n);
        if (!chosen.ok()) return chosen.status();
        if (!path || !*path) return fail(Code::argument, "snapshot_save: no path");
        FileBytes file;
        Result<int64_t> written = c.export_snapshot(chosen->ids, chosen->all, [&](int64_t bytes) -> Result<std::byte*> {
            file = {std::unique_ptr<std::byte[]>(new std::byte[size_t(bytes)]), bytes};
            return file.data.get();
        });
        return written.ok() ? replace_file(path, file.span()) : written.status();
    });
}

kvc_status kvc_snapshot_load(kvc_cache* cache, const char* path, kvc_seq* out, int64_t capacity, int64_t* out_n, kvc_error* err) {
    return with_cache("snapshot_load", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_import("snapshot_load", out, capacity, out_n));
        if (!path || !*path) return fail(Code::argument, "snapshot_load: no path");
        Result<FileBytes> file = read_snapshot_file(path);
        if (!file.ok()) return file.status();
        return import("snapshot_load", c, file->span(), out, capacity, out_n);
    });
}
