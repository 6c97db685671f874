// New pages out of tokens of others: jobs go to the device in pieces of a ring, each read by the launches behind it.
#include <algorithm>
#include <bit>

#include "kernels/cuda/device.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/recode_launch.h"

namespace kvc::cuda {
namespace {

constexpr int64_t ring_bytes = int64_t{4} << 20, piece_bytes = int64_t{1} << 20;

// What a job takes, but for gaps between tables.
int64_t job_bytes(const RecodeParams& job) {
    return bytes_of<RecodeJob>(1) + job.n_sources * bytes_of<SourcePage>(1) + std::popcount(job.folded) * bytes_of<FoldedRow>(1);
}

// Jobs, from the first on, that are sure to fit into one piece.
size_t jobs_of_piece(std::span<const RecodeParams> jobs, int64_t* bytes) {
    *bytes = 3 * 16;
    for (size_t i = 0; i < jobs.size(); i++) {
        const int64_t more = job_bytes(jobs[i]);
        if (i > 0 && *bytes + more > piece_bytes) {
            return i;
        }
        *bytes += more;
    }
    return jobs.size();
}

bool coded_alike(const RecodeParams& a, const RecodeParams& b) {
    return a.format == b.format && a.round == b.round && a.through_append == b.through_append;
}

// Fills a piece; returns where the jobs lie on the device.
const RecodeJob* write_jobs(std::span<const RecodeParams> jobs, const UploadRing::Piece& piece) {
    int64_t n_sources = 0, n_folds = 0;
    for (const RecodeParams& job : jobs) {
        n_sources += job.n_sources;
        n_folds += std::popcount(job.folded);
    }
    Tables tables(piece);
    const RecodeJob* device_jobs = nullptr;
    const SourcePage* device_from = nullptr;
    RecodeJob* job = tables.reserve(int64_t(jobs.size()), &device_jobs);
    SourcePage* from = tables.reserve(n_sources, &device_from);
    const FoldedRow* device_folds = nullptr;
    FoldedRow* folds = tables.reserve(n_folds, &device_folds);
    for (const RecodeParams& params : jobs) {
        const int64_t folded = std::popcount(params.folded);
        *job++ = recode_job(params, device_from, device_folds);
        folds = std::copy_n(params.folds, folded, folds);
        device_folds += folded;
        const auto page_of = [](const RecodeSource& source) { return source_page(source); };
        from = std::transform(params.sources, params.sources + params.n_sources, from, page_of);
        device_from += params.n_sources;
    }
    return device_jobs;
}

}  // namespace

Status CudaDevice::create_recoder() {
    recode_uploads_ = std::make_unique<UploadRing>();
    return recode_uploads_->create(ring_bytes, ring_bytes / 2, &waits_, {&heap_});
}

// The stream is the device's own, so that a piece's copy comes behind whatever still reads that place of the ring.
Status CudaDevice::queue_recodes(std::span<const RecodeParams> jobs, int64_t bytes) {
    const Result<UploadRing::Piece> piece = recode_uploads_->take(bytes, stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    const RecodeJob* const table = write_jobs(jobs, *piece);
    KVC_TRY(recode_uploads_->send(*piece, stream_));
    KVC_TRY(recode_uploads_->mark(stream_));
    const auto alike = [&](int64_t a, int64_t b) { return coded_alike(jobs[size_t(a)], jobs[size_t(b)]); };
    for_each_run(int64_t(jobs.size()), alike,
                 [&](int64_t first, int64_t n) { launch_recode(jobs[size_t(first)], table + first, int(n), stream_); });
    return runtime::launched();
}

Status CudaDevice::recode(std::span<const RecodeParams> jobs) {
    if (jobs.empty()) {
        return {};
    }
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    while (!jobs.empty()) {
        int64_t bytes = 0;
        const size_t n = jobs_of_piece(jobs, &bytes);
        KVC_TRY(queue_recodes(jobs.first(n), bytes));
        jobs = jobs.subspan(n);
    }
    return advance();
}

}  // namespace kvc::cuda
