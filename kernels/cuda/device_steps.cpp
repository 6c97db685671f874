// The steps of a CUDA device: what they take turns with, their order, and what their stores have found.
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/graph_executor.h"

namespace kvc::cuda {
namespace {

constexpr size_t most_ended = 64;  // steps whose findings are on their way to the host

}  // namespace

Result<std::unique_ptr<Workspace>> CudaDevice::workspace_for(const DeviceStep& step) {
    const WorkspaceSizes sizes = WorkspaceSizes::of(step);
    for (size_t i = 0; i < idle_.size(); i++) {
        if (idle_[i]->sizes().covers(sizes)) {
            std::unique_ptr<Workspace> found = std::move(idle_[i]);
            idle_.erase(idle_.begin() + std::ptrdiff_t(i));
            return found;
        }
    }
    std::unique_ptr<Workspace> workspace;
    KVC_TRY(with_memory([&] {
        workspace = std::make_unique<Workspace>();
        return workspace->create(sizes.rounded(), &waits_, {&heap_});
    }));
    // The new one takes the place of one that was too small; kernels may still be at work there.
    if (!idle_.empty()) {
        outgrown_.push_back(std::move(idle_.back()));
        idle_.pop_back();
    }
    return workspace;
}

Result<std::unique_ptr<BadTokens>> CudaDevice::bad_tokens_for(const DeviceStep& step) {
    for (size_t i = 0; i < idle_bad_.size(); i++) {
        if (idle_bad_[i]->most_tags() >= step.store_jobs) {
            std::unique_ptr<BadTokens> found = std::move(idle_bad_[i]);
            idle_bad_.erase(idle_bad_.begin() + std::ptrdiff_t(i));
            return found;
        }
    }
    std::unique_ptr<BadTokens> bad;
    KVC_TRY(with_memory([&] {
        bad = std::make_unique<BadTokens>();
        return bad->create(round_up(step.store_jobs, 512), {&heap_});
    }));
    return bad;
}

// Takes in what ended steps have found, as far as it has come; all of it if asked to wait.
Status CudaDevice::collect(bool wait) {
    while (!ended_bad_.empty()) {
        BadTokens& oldest = *ended_bad_.front();
        if (wait || ended_bad_.size() > most_ended) {
            KVC_TRY(oldest.wait(waits_));
        } else {
            const Result<bool> here = oldest.fetched();
            if (!here.ok()) {
                return here.status();
            }
            if (!*here) {
                return {};
            }
        }
        oldest.report(&found_);
        idle_bad_.push_back(std::move(ended_bad_.front()));
        ended_bad_.erase(ended_bad_.begin());
    }
    return {};
}

// A caller's mistake, which must not cost the device: launches would fail, and what the step had queued could not be waited for.
Status CudaDevice::check_stream(Stream stream) const {
    const Result<int> found = runtime::device_of(stream);
    if (!found.ok()) {
        return found.status();
    }
    return *found == ordinal_
               ? Status{}
               : fail(Code::argument, "step: the stream is of CUDA device ", *found, ", and the cache of device ", ordinal_);
}

Status CudaDevice::admit(QueuedStep& queued, const DeviceStep& step, Workspace& workspace) {
    steps_.push_back(&queued);
    // Streams of ended steps were joined to the device's own, which this step's now waits for.
    KVC_TRY(advance());
    if (queued.stream_ != stream_) {
        KVC_TRY(runtime::wait(queued.stream_, order_event_));
    }
    queued.seen_order_ = order_;
    queued.queued_ = true;
    KVC_TRY(queued.bad_->reset(queued.stream_));
    return workspace.set_slabs(step.slabs, step.slab_count, queued.stream_);
}

Result<std::unique_ptr<DeviceExecutor>> CudaDevice::begin(const DeviceStep& step) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    if (step.stream) {
        KVC_TRY(check_stream(static_cast<Stream>(step.stream)));
        const Result<bool> capturing = runtime::is_capturing(static_cast<Stream>(step.stream));
        if (!capturing.ok()) {
            return capturing.status();
        }
        if (*capturing) {
            return fail(Code::capture, "step: the stream is being captured, and the step names no graph");
        }
    }
    std::unique_ptr<CudaExecutor> executor;
    const Status prepared = [&]() -> Status {
        std::lock_guard lock(mutex_);
        KVC_TRY(lost_);
        KVC_TRY(collect(false));
        Result<std::unique_ptr<Workspace>> workspace = workspace_for(step);
        if (!workspace.ok()) {
            return workspace.status();
        }
        Result<std::unique_ptr<BadTokens>> bad = bad_tokens_for(step);
        if (!bad.ok()) {
            idle_.push_back(std::move(*workspace));
            return bad.status();
        }
        const Stream stream = step.stream ? static_cast<Stream>(step.stream) : stream_;
        executor =
            std::make_unique<CudaExecutor>(shared_from_this(), stream, step.device_buffers, std::move(*workspace), std::move(*bad));
        return admit(*executor, step, *executor->workspace_);
    }();
    // An executor that could not be prepared ends here, outside of the lock.
    if (!prepared.ok()) {
        return prepared;
    }
    return std::unique_ptr<DeviceExecutor>(std::move(executor));
}

Result<std::unique_ptr<DeviceGraph>> CudaDevice::create_graph(const GraphShape& shape) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    auto graph = std::make_unique<CudaGraph>(shared_from_this(), shape);
    const Status created = [&]() -> Status {
        std::lock_guard lock(mutex_);
        graphs_++;  // until it retires, which a graph that could not be created does, too
        KVC_TRY(lost_);
        retired_.reserve(retired_.size() + graphs_);
        // Replays read it on streams that a pool's memory would have to wait for.
        return with_memory([&] { return graph->create(&waits_, {heap_.ordered() ? nullptr : &heap_}); });
    }();
    // A graph that could not be created ends here, outside of the lock.
    if (!created.ok()) {
        return created;
    }
    return std::unique_ptr<DeviceGraph>(std::move(graph));
}

Result<std::unique_ptr<GraphExecutor>> CudaDevice::begin_replay(const DeviceStep& step, CudaGraph& graph) {
    const Stream stream = static_cast<Stream>(step.stream);
    KVC_TRY(check_stream(stream));
    std::unique_ptr<GraphReplay> replay;
    const Status prepared = [&]() -> Status {
        std::lock_guard lock(mutex_);
        KVC_TRY(lost_);
        KVC_TRY(collect(false));
        Result<std::unique_ptr<BadTokens>> bad = bad_tokens_for(step);
        if (!bad.ok()) {
            return bad.status();
        }
        replay = std::make_unique<GraphReplay>(shared_from_this(), graph, stream, std::move(*bad));
        return admit(*replay, step, graph.memory().workspace);
    }();
    if (!prepared.ok()) {
        return prepared;
    }
    return std::unique_ptr<GraphExecutor>(std::move(replay));
}

Status CudaDevice::check_usable() {
    std::lock_guard lock(mutex_);
    return lost_;
}

void CudaDevice::retire(std::unique_ptr<GraphMemory> memory) {
    std::lock_guard lock(mutex_);
    graphs_--;
    if (memory) {
        retired_.push_back(std::move(memory));
    }
}

Status CudaDevice::may_end(const QueuedStep& step) const {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    return check_uncaptured(step);
}

void CudaDevice::end(QueuedStep& step) {
    const OwnCall own(ordinal_);
    std::lock_guard lock(mutex_);
    std::erase(steps_, &step);
    const Status left = [&]() -> Status {
        KVC_TRY(own.status());
        if (step.bad_->any()) {
            KVC_TRY(check_uncaptured(step));
            step.queued_ = true;
            KVC_TRY(step.bad_->fetch(step.stream_));
        }
        return gather_one(step);
    }();
    if (!left.ok() && lost_.ok()) {
        lost_ = fail(Code::device, left.message);  // nobody can wait for what the step has queued, or knows what its stores have found
    }
    (step.bad_->any() && left.ok() ? ended_bad_ : idle_bad_).push_back(std::move(step.bad_));
    if (step.workspace_) {
        step.workspace_->mass.forget();
        idle_.push_back(std::move(step.workspace_));
    }
}

Status CudaDevice::synchronize(std::vector<BadStore>* bad) {
    const OwnCall own(ordinal_);
    std::lock_guard lock(mutex_);
    KVC_TRY(own.status());
    KVC_TRY(lost_);
    for (const QueuedStep* const step : steps_) {
        KVC_TRY(check_uncaptured(*step));
    }
    for (QueuedStep* const step : steps_) {
        if (step->bad_->any()) {
            step->queued_ = true;
            KVC_TRY(step->bad_->fetch(step->stream_));
        }
    }
    KVC_TRY(gather());
    KVC_TRY(waits_.for_stream(stream_));
    KVC_TRY(collect(true));
    for (QueuedStep* const step : steps_) {
        step->bad_->report(&found_);
        if (step->workspace_) {
            step->workspace_->mass.add_to_host();
        }
    }
    bad->insert(bad->end(), found_.begin(), found_.end());
    found_.clear();
    free_released();
    return {};
}

}  // namespace kvc::cuda
