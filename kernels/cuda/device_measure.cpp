// Numbers of tokens for policies: lists of tokens go to the device, a few numbers for each of them come back, and no page does.
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/measure_launch.h"

namespace kvc::cuda {
namespace {

bool needs_lengths(KeyStatistic statistic) { return statistic == KeyStatistic::alignment || statistic == KeyStatistic::similarity; }

CallSizes sizes_of(std::span<const StatisticJob> jobs) {
    CallSizes sizes;
    sizes.uploads = CallSizes::of<MeasureJob>(int64_t(jobs.size()));
    for (const StatisticJob& job : jobs) {
        const int64_t n = job.tokens.n, dim = job.format->k_dim;
        sizes.uploads += CallSizes::of<SourcePage>(job.tokens.n_sources) + CallSizes::of<uint32_t>(n);
        sizes.results += CallSizes::of<double>(job.heads * n) + CallSizes::of<float>(job.value_norms ? n : 0);
        if (job.statistic == KeyStatistic::logits) {
            sizes.uploads += 2 * CallSizes::of<double>(job.heads * dim);
        }
        if (needs_lengths(job.statistic)) {
            sizes.work += CallSizes::of<double>(n);
        }
        if (job.statistic == KeyStatistic::alignment) {
            sizes.work += CallSizes::of<double>(runs_of(n) * dim) + CallSizes::of<double>(dim);
        }
    }
    return sizes;
}

MeasureJob job_of(const StatisticJob& job, Tables* tables, CallMemory* results, CallMemory* work) {
    const int64_t n = job.tokens.n, dim = job.format->k_dim;
    MeasureJob out{};
    out.pages = add_sources(job.tokens, tables);
    out.places = tables->add(job.tokens.places, n);
    out.tokens = n;
    out.heads = job.heads;
    if (job.statistic == KeyStatistic::logits) {
        out.mean = tables->add(job.mean, job.heads * dim);
        out.variance = tables->add(job.variance, job.heads * dim);
    }
    out.out = results->take<double>(job.heads * n);
    out.value_norms = job.value_norms ? results->take<float>(n) : nullptr;
    if (needs_lengths(job.statistic)) {
        out.lengths = work->take<double>(n);
    }
    if (job.statistic == KeyStatistic::alignment) {
        out.runs = work->take<double>(runs_of(n) * dim);
        out.sum = work->take<double>(dim);
    }
    return out;
}

void hand_out(std::span<const StatisticJob> jobs, CallMemory results) {
    for (const StatisticJob& job : jobs) {
        const int64_t n = job.tokens.n;
        std::copy_n(results.take<double>(job.heads * n), job.heads * n, job.out);
        const float* const norms = results.take<float>(job.value_norms ? n : 0);
        if (job.value_norms) {
            std::copy_n(norms, n, job.value_norms);
        }
    }
}

}  // namespace

Status CudaDevice::reserve_call(const CallSizes& sizes) {
    const int64_t host = sizes.uploads + sizes.results, device = host + sizes.work;
    if (room_.host.bytes() < host) {
        room_.host = PinnedBlock();
        KVC_TRY(room_.host.allocate("numbers of tokens (pinned memory of the host)", CallRoom::rounded(host)));
    }
    if (room_.device_bytes < device) {
        bool used = false;
        release_call(0);
        room_.device = allocate_block(CallRoom::rounded(device), &used);
        if (!room_.device) {
            return fail(Code::no_memory, "CUDA: no ", device, " bytes for numbers of tokens");
        }
        room_.device_bytes = CallRoom::rounded(device);
    }
    return {};
}

void CudaDevice::release_call(int64_t kept) {
    if (room_.device && room_.device_bytes > kept) {
        release_block(std::exchange(room_.device, nullptr));
        room_.device_bytes = 0;
    }
    if (room_.host.bytes() > kept && kept > 0) {
        room_.host = PinnedBlock();
    }
}

Status CudaDevice::run_call(const CallSizes& sizes, const std::function<Status()>& queue, const std::function<void(CallMemory)>& take) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    Status status = reserve_call(sizes);
    if (status.ok()) {
        status = queue();
        if (status.ok() && sizes.results > 0) {
            status = runtime::copy_out(room_.results_here(sizes), room_.results_there(sizes), sizes.results, stream_);
        }
        // Also after a failure: what was queued reads the room.
        const Status waited = waits_.for_stream(stream_);
        status = status.ok() ? waited : status;
    }
    if (status.ok()) {
        take(CallMemory(room_.results_here(sizes)));
    }
    release_call(CallRoom::kept);
    return status;
}

Status CudaDevice::queue_measure(std::span<const StatisticJob> jobs, const CallSizes& sizes) {
    Tables tables(room_.uploads(sizes));
    CallMemory results(room_.results_there(sizes)), work(room_.work(sizes));
    const MeasureJob* there = nullptr;
    MeasureJob* const table = tables.reserve(int64_t(jobs.size()), &there);
    int64_t most = 0;
    for (size_t i = 0; i < jobs.size(); i++) {
        table[i] = job_of(jobs[i], &tables, &results, &work);
        most = std::max(most, jobs[i].tokens.n);
    }
    if (most == 0) {
        return {};
    }
    KVC_TRY(runtime::copy_in(room_.device, room_.host.data(), tables.used(), stream_));
    const LayerFormat& format = *jobs[0].format;
    launch_measure(format, jobs[0].statistic, there, int(jobs.size()), most, stream_);
    if (std::any_of(jobs.begin(), jobs.end(), [](const StatisticJob& job) { return job.value_norms != nullptr; })) {
        launch_measure_values(format, there, int(jobs.size()), most, stream_);
    }
    return runtime::launched();
}

Status CudaDevice::measure(std::span<const StatisticJob> jobs) {
    if (jobs.empty()) {
        return {};
    }
    const CallSizes sizes = sizes_of(jobs);
    return run_call(sizes, [&] { return queue_measure(jobs, sizes); }, [&](CallMemory results) { hand_out(jobs, results); });
}

}  // namespace kvc::cuda
