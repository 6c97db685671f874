#include "tests/cuda/recode_rig.h"

#include <algorithm>
#include <bit>
#include <doctest/doctest.h>

#include "tests/cuda/codecs.h"
#include "tests/reference/plain_recode.h"

namespace kvc_test {
namespace {

using kvc::RecodeParams;
using kvc::RecodeSource;

// What can be a page's form at these head dims; 16-bit rows also in the rotated basis, where a ladder keeps them.
std::vector<std::unique_ptr<LayerFormat>> formats_of(const KernelTable& table, int k_dim, int v_dim) {
    std::vector<std::unique_ptr<LayerFormat>> formats;
    for (const char* const codec : all_codecs()) {
        if (fits(codec, k_dim, v_dim) && !table.unsupported(format_of(codec, k_dim, v_dim))) {
            formats.push_back(std::make_unique<LayerFormat>(format_of(codec, k_dim, v_dim)));
        }
    }
    formats.push_back(std::make_unique<LayerFormat>(format_of("fp16", k_dim, v_dim)));
    formats.back()->codec.v.rotate = true;
    return formats;
}

// What jobs point to.
struct Tables {
    std::vector<std::vector<RecodeSource>> sources;
    std::vector<std::vector<kvc::FoldedRow>> folds;
};

RecodeParams params_of(const Blocks::Job& job, std::byte* base, Tables* tables) {
    std::vector<RecodeSource>& from = tables->sources.emplace_back();
    for (const Blocks::Source& s : job.sources)
        from.push_back({s.format, base + s.record, s.side < 0 ? nullptr : base + s.side, s.first_position});
    RecodeParams params = {job.format,  base + job.record,    job.side < 0 ? nullptr : base + job.side,
                           from.data(), int64_t(from.size()), {},
                           {},          job.through_append,   job.round};
    for (size_t t = 0; t < size_t(page_tokens); t++) {
        const auto& [source, slot] = job.tokens[std::min(t, job.tokens.size() - 1)];
        params.page[t] = uint8_t(source);
        params.slots[t] = uint8_t(slot);
    }
    std::vector<kvc::FoldedRow>& rows = tables->folds.emplace_back();
    const auto at = [&](int64_t offset) { return offset < 0 ? nullptr : reinterpret_cast<const float*>(base + offset); };
    for (const Blocks::Fold& fold : job.folds) {
        params.folded |= uint64_t{1} << fold.token;
        rows.push_back({at(fold.k), at(fold.v)});
    }
    params.folds = rows.data();
    params.keeps_keys = job.keeps_keys;
    return params;
}

}  // namespace

int64_t Blocks::add(const std::vector<std::byte>& bytes) {
    const int64_t at = used_;
    std::copy(bytes.begin(), bytes.end(), here_.begin() + at);
    used_ += (int64_t(bytes.size()) + 127) / 128 * 128;
    REQUIRE(used_ <= int64_t(here_.size()));
    return at;
}

kvc::Status Blocks::recode_there(const std::vector<Job>& jobs) {
    Tables tables;
    std::vector<RecodeParams> all;
    for (const Job& job : jobs)
        all.push_back(params_of(job, there_, &tables));
    return device_->recode(all);
}

void Blocks::recode_here(const std::vector<Job>& jobs) {
    Tables tables;
    for (const Job& job : jobs)
        kvc_plain::recode(device_->records(), params_of(job, here_.data(), &tables));
}

int64_t Blocks::difference() {
    std::vector<std::byte> back(here_.size());
    REQUIRE(device_->read(there_, back.data(), int64_t(back.size())).ok());
    const auto found = std::mismatch(back.begin(), back.end(), here_.begin()).first;
    return found == back.end() ? -1 : found - back.begin();
}

void Blocks::run(const std::vector<Job>& jobs) {
    REQUIRE(send().ok());
    REQUIRE(recode_there(jobs).ok());
    recode_here(jobs);
    CHECK(difference() == -1);
}

std::vector<std::byte> page_of(const LayerFormat& f, const KernelTable& table, unsigned seed) {
    constexpr float sizes[] = {1.0f, 300.0f, 30000.0f, 0x1p-12f};
    const float size = sizes[seed % 4];
    const std::vector<float> k = gaussian(size_t(page_tokens * f.k_dim), seed, size),
                             v = gaussian(size_t(page_tokens * f.v_dim), ~seed, size);
    std::vector<std::byte> rows(size_t(f.window_bytes)), codes(size_t(f.code_bytes));
    REQUIRE(table.store({&f, k.data(), v.data(), kvc::Dtype::f32, f.k_dim, f.v_dim, page_tokens, rows.data(), false, 0, true}) == -1);
    if (f.lossless) {
        return rows;
    }
    table.quantize({&f, rows.data(), codes.data()});
    return codes;
}

std::vector<std::pair<int, int>> tokens_of_page(uint64_t live) {
    std::vector<std::pair<int, int>> tokens;
    for (int t = 0; t < page_tokens; t++)
        tokens.push_back({0, live >> t & 1 ? t : std::countr_zero(live)});
    return tokens;
}

std::vector<std::pair<int, int>> mixed_tokens(int pages, int n, unsigned seed) {
    std::vector<std::pair<int, int>> tokens;
    for (int i = 0; i < n; i++)
        tokens.push_back({int((unsigned(i) * 7 + seed) % unsigned(pages)), int((unsigned(i) * 11 + seed * 3) % page_tokens)});
    return tokens;
}

void check_recodes(const std::shared_ptr<kvc::Device>& device, int k_dim, int v_dim, int stride) {
    const auto formats = formats_of(device->records(), k_dim, v_dim);
    Blocks blocks(device, int64_t{48} << 20);
    std::vector<Blocks::Source> pages;
    unsigned seed = 1;
    for (const auto& format : formats) {
        for (int i = 0; i < 2; i++)
            pages.push_back({format.get(), blocks.add(page_of(*format, device->records(), seed++)), -1, 0});
    }
    std::vector<Blocks::Job> jobs;
    for (size_t to = 0; to < formats.size(); to++) {
        const LayerFormat& f = *formats[to];
        for (size_t from = to % size_t(stride); from < pages.size(); from += size_t(stride)) {
            const uint64_t live = from % 2 ? 0x0123'4567'89ab'cdf0 : kvc::all_live;
            jobs.push_back({&f, blocks.add(f.code_bytes), -1, {pages[from]}, tokens_of_page(live), from % 4 > 1, 0});
        }
        for (const int n : {1, 33, 64}) {
            // Pages of its own format are among them, so that some values move and others do not.
            std::vector<Blocks::Source> some = {pages[2 * to], pages[2 * to + 1], pages[(2 * to + 5) % pages.size()]};
            jobs.push_back({&f, blocks.add(f.code_bytes), -1, some, mixed_tokens(3, n, unsigned(to)), n == 64, 0});
            some.resize(2);
            jobs.push_back({&f, blocks.add(f.code_bytes), -1, some, mixed_tokens(2, n, unsigned(to) + 5), true, 0});
        }
    }
    blocks.run(jobs);
}

}  // namespace kvc_test
