// Merging: which kept token each leaving one joins, the means of those that come together, and means into 16-bit records.
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/merge_launch.h"

namespace kvc::cuda {
namespace {

int64_t list_bytes(const TokenList& tokens) { return CallSizes::of<SourcePage>(tokens.n_sources) + CallSizes::of<uint32_t>(tokens.n); }

CallSizes sizes_of(std::span<const RouteJob> jobs) {
    CallSizes sizes;
    sizes.uploads = CallSizes::of<MeasureJob>(2 * int64_t(jobs.size())) + CallSizes::of<MatchJob>(int64_t(jobs.size()));
    for (const RouteJob& job : jobs) {
        sizes.uploads += list_bytes(job.leaving) + list_bytes(job.kept);
        sizes.work += CallSizes::of<double>(job.leaving.n) + CallSizes::of<double>(job.kept.n);
        sizes.results += CallSizes::of<int64_t>(job.leaving.n);
    }
    return sizes;
}

CallSizes sizes_of(std::span<const FoldJob> jobs) {
    CallSizes sizes;
    sizes.uploads = CallSizes::of<MeansJob>(int64_t(jobs.size()));
    for (const FoldJob& job : jobs) {
        sizes.uploads += list_bytes(job.members) + CallSizes::of<int64_t>(job.members.n) + CallSizes::of<int64_t>(job.folds);
    }
    return sizes;
}

KeyList add_keys(const TokenList& tokens, Tables* tables, CallMemory* work) {
    const SourcePage* const pages = add_sources(tokens, tables);
    return {pages, tables->add(tokens.places, tokens.n), work->take<double>(tokens.n), tokens.n};
}

MeasureJob lengths_job(const KeyList& keys) {
    MeasureJob job{};
    job.pages = keys.pages;
    job.places = keys.places;
    job.tokens = keys.n;
    job.lengths = keys.lengths;
    return job;
}

}  // namespace

Status CudaDevice::queue_route(std::span<const RouteJob> jobs, const CallSizes& sizes) {
    Tables tables(room_.uploads(sizes));
    CallMemory results(room_.results_there(sizes)), work(room_.work(sizes));
    const auto n = int64_t(jobs.size());
    const MeasureJob* lengths_there = nullptr;
    const MatchJob* there = nullptr;
    MeasureJob* lengths = tables.reserve(2 * n, &lengths_there);
    MatchJob* matches = tables.reserve(n, &there);
    int64_t most = 0, most_leaving = 0;
    for (const RouteJob& job : jobs) {
        const KeyList leaving = add_keys(job.leaving, &tables, &work), kept = add_keys(job.kept, &tables, &work);
        *lengths++ = lengths_job(leaving);
        *lengths++ = lengths_job(kept);
        *matches++ = {leaving, kept, job.least, results.take<int64_t>(leaving.n)};
        most = std::max({most, leaving.n, kept.n});
        most_leaving = std::max(most_leaving, leaving.n);
    }
    if (most_leaving == 0) {
        return {};
    }
    KVC_TRY(runtime::copy_in(room_.device, room_.host.data(), tables.used(), stream_));
    launch_lengths(*jobs[0].format, lengths_there, int(2 * n), most, stream_);
    launch_match(*jobs[0].format, there, int(n), most_leaving, stream_);
    return runtime::launched();
}

Status CudaDevice::route(std::span<const RouteJob> jobs) {
    if (jobs.empty()) {
        return {};
    }
    const CallSizes sizes = sizes_of(jobs);
    const auto hand_out = [&](CallMemory results) {
        for (const RouteJob& job : jobs) {
            std::copy_n(results.take<int64_t>(job.leaving.n), job.leaving.n, job.out);
        }
    };
    return run_call(sizes, [&] { return queue_route(jobs, sizes); }, hand_out);
}

// Waits, so that tables may be written anew by the next call.
Status CudaDevice::queue_fold(std::span<const FoldJob> jobs, const CallSizes& sizes) {
    Tables tables(room_.uploads(sizes));
    const MeansJob* there = nullptr;
    MeansJob* means = tables.reserve(int64_t(jobs.size()), &there);
    int64_t most = 0;
    for (const FoldJob& job : jobs) {
        const SourcePage* const pages = add_sources(job.members, &tables);
        const uint32_t* const places = tables.add(job.members.places, job.members.n);
        const int64_t* const weights = tables.add(job.weights, job.members.n);
        *means++ = {pages, places, weights, tables.add(job.ends, job.folds), job.folds, job.rows};
        most = std::max(most, job.folds);
    }
    if (most == 0) {
        return {};
    }
    KVC_TRY(runtime::copy_in(room_.device, room_.host.data(), tables.used(), stream_));
    launch_means(*jobs[0].format, jobs[0].new_keys, there, int(jobs.size()), most, stream_);
    return runtime::launched();
}

Status CudaDevice::fold(std::span<const FoldJob> jobs) {
    if (jobs.empty()) {
        return {};
    }
    const CallSizes sizes = sizes_of(jobs);
    return run_call(sizes, [&] { return queue_fold(jobs, sizes); }, [](CallMemory) {});
}

// Means that are stored saturated are always stored, so that what stands behind the jobs takes no token's number.
Status CudaDevice::queue_stores(std::span<const StoreParams> jobs) {
    const auto n = int64_t(jobs.size());
    const Result<UploadRing::Piece> piece = recode_uploads_->take(bytes_of<StoreJob>(n) + 2 * 16, stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    Tables tables(*piece);
    const StoreJob* there = nullptr;
    const unsigned long long* none_there = nullptr;
    StoreJob* const table = tables.reserve(n, &there);
    *tables.reserve(1, &none_there) = 0;
    std::transform(jobs.begin(), jobs.end(), table,
                   [&](const StoreParams& job) { return store_job(job, const_cast<unsigned long long*>(none_there)); });
    KVC_TRY(recode_uploads_->send(*piece, stream_));
    KVC_TRY(recode_uploads_->mark(stream_));
    const auto alike = [&](int64_t a, int64_t b) { return jobs[size_t(a)].format == jobs[size_t(b)].format; };
    for_each_run(n, alike, [&](int64_t first, int64_t count) {
        const auto run = jobs.subspan(size_t(first), size_t(count));
        launch_store(run[0], there + first, int(count), most_tokens(run), stream_);
    });
    return runtime::launched();
}

Status CudaDevice::store(std::span<const StoreParams> jobs) {
    constexpr size_t jobs_of_piece = 8192;
    if (jobs.empty()) {
        return {};
    }
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    while (!jobs.empty()) {
        const size_t n = std::min(jobs.size(), jobs_of_piece);
        KVC_TRY(queue_stores(jobs.first(n)));
        jobs = jobs.subspan(n);
    }
    return advance();
}

}  // namespace kvc::cuda
