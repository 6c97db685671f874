#include "tests/cuda/measure_rig.h"

#include <bit>
#include <doctest/doctest.h>
#include <random>

#include "tests/reference/plain_measure.h"

namespace kvc_test {
namespace {

using kvc::KeyStatistic;
using kvc::StatisticJob;

struct Measured {
    std::vector<double> numbers;
    std::vector<float> norms;

    bool operator==(const Measured& other) const {
        const auto same = [](auto a, auto b) { return a == b && std::signbit(a) == std::signbit(b); };
        return std::equal(numbers.begin(), numbers.end(), other.numbers.begin(), other.numbers.end(), same) && norms == other.norms;
    }
};

struct Queries {
    std::vector<double> mean, variance;
};

Queries queries_of(int64_t heads, int k_dim, unsigned seed) {
    Queries out;
    for (const float x : gaussian(size_t(heads * k_dim), seed))
        out.mean.push_back(double(x)), out.variance.push_back(double(x) * double(x) / 3);
    return out;
}

}  // namespace

TokenRecords::TokenRecords(const std::shared_ptr<kvc::Device>& device, const std::vector<std::string>& codecs, int k_dim, int v_dim)
    : blocks_(device, int64_t{2} << 20) {
    for (const std::string& codec : codecs)
        formats_.push_back(std::make_unique<LayerFormat>(format_of(codec, k_dim, v_dim)));
    const LayerFormat& top = *formats_[0];
    const LayerFormat rows = kvc::window_as_codes(top);
    const auto add = [&](const LayerFormat& f, KernelTable::Form form, const LayerFormat& made_as, unsigned seed, int slots) {
        // Sinks have a layout of their own; any finite numbers do.
        std::vector<std::byte> bytes = page_of(made_as, device->records(), seed);
        if (form == KernelTable::Form::sinks) bytes.resize(size_t(top.sink_bytes));
        records_.push_back({&f, form, blocks_.add(bytes), slots});
    };
    if (top.codec.sinks > 0) add(top, KernelTable::Form::sinks, rows, 4, int(top.codec.sinks));
    for (unsigned i = 0; i < 3 * formats_.size(); i++)
        add(*formats_[i / 3], KernelTable::Form::codes, *formats_[i / 3], 4 * i + i % 3, page_tokens);
    add(top, KernelTable::Form::window, rows, 100, page_tokens);
    REQUIRE(blocks_.send().ok());
}

TokenRecords::List TokenRecords::draw(int64_t tokens, unsigned seed, bool there) const {
    List out;
    for (const Record& record : records_)
        out.sources.push_back({record.format, record.form, (there ? blocks_.there() : blocks_.here()) + record.at});
    std::mt19937 random(seed);
    for (int64_t i = 0; i < tokens; i++) {
        const auto source = uint32_t(random() % records_.size());
        out.places.push_back(source * uint32_t(page_tokens) + uint32_t(random() % unsigned(records_[source].slots)));
    }
    return out;
}

void check_measures(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records, const std::vector<int64_t>& tokens) {
    const LayerFormat& f = records.format();
    for (const KeyStatistic statistic :
         {KeyStatistic::square, KeyStatistic::alignment, KeyStatistic::logits, KeyStatistic::similarity}) {
        CAPTURE(int(statistic));
        std::vector<TokenRecords::List> here, there;
        std::vector<Queries> queries;
        std::vector<Measured> wanted(tokens.size()), got(tokens.size());
        std::vector<StatisticJob> jobs;
        for (size_t i = 0; i < tokens.size(); i++) {
            here.push_back(records.draw(tokens[i], unsigned(i), false));
            there.push_back(records.draw(tokens[i], unsigned(i), true));
        }
        for (size_t i = 0; i < tokens.size(); i++) {
            const int64_t heads = statistic == KeyStatistic::logits ? int64_t(i) % 4 : 1;
            queries.push_back(queries_of(heads, f.k_dim, unsigned(i)));
            for (Measured* const measured : {&wanted[i], &got[i]}) {
                measured->numbers.resize(size_t(heads * tokens[i]));
                measured->norms.resize(size_t(tokens[i]));
            }
            const auto job = [&](const TokenRecords::List& list, Measured& out) {
                return StatisticJob{&f,
                                    list.list(),
                                    statistic,
                                    heads,
                                    queries[i].mean.data(),
                                    queries[i].variance.data(),
                                    out.numbers.data(),
                                    out.norms.data()};
            };
            kvc_plain::measure(device->records(), job(here[i], wanted[i]), [](const std::byte* record) { return record; });
            jobs.push_back(job(there[i], got[i]));
        }
        const kvc::Status status = device->measure(jobs);
        REQUIRE_MESSAGE(status.ok(), status.message);
        for (size_t i = 0; i < tokens.size(); i++) {
            CAPTURE(tokens[i]);
            CHECK(got[i] == wanted[i]);
        }
    }
}

void check_routes(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records,
                  const std::vector<std::pair<int64_t, int64_t>>& leaving_and_kept, double least) {
    std::vector<TokenRecords::List> here, there;
    std::vector<std::vector<int64_t>> wanted, got;
    for (const auto& [leaving, kept] : leaving_and_kept) {
        for (const int64_t n : {leaving, kept}) {
            const auto seed = unsigned(here.size() / 2 * 3);  // both lists name some tokens alike, and often
            here.push_back(records.draw(n, seed, false));
            there.push_back(records.draw(n, seed, true));
        }
        wanted.emplace_back(size_t(leaving), -5);
        got.emplace_back(size_t(leaving), -5);
    }
    std::vector<kvc::RouteJob> jobs;
    const auto job = [&](const std::vector<TokenRecords::List>& lists, size_t i, std::vector<int64_t>& out) {
        return kvc::RouteJob{&records.format(), lists[2 * i].list(), lists[2 * i + 1].list(), least, out.data()};
    };
    for (size_t i = 0; i < wanted.size(); i++) {
        kvc_plain::route(device->records(), job(here, i, wanted[i]), [](const std::byte* record) { return record; });
        jobs.push_back(job(there, i, got[i]));
    }
    const kvc::Status status = device->route(jobs);
    REQUIRE_MESSAGE(status.ok(), status.message);
    CHECK(got == wanted);
}

void check_folds(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records,
                 const std::vector<std::vector<int64_t>>& members, bool new_keys) {
    const LayerFormat& f = records.format();
    const size_t numbers = size_t(f.k_dim + f.v_dim);
    std::vector<TokenRecords::List> here, there;
    std::vector<std::vector<int64_t>> ends, weights;
    std::vector<std::vector<float>> wanted;
    size_t rows = 0;
    for (const std::vector<int64_t>& head : members) {
        std::vector<int64_t>& end = ends.emplace_back();
        int64_t n = 0;
        for (const int64_t of_fold : head)
            end.push_back(n += of_fold);
        std::vector<int64_t>& weight = weights.emplace_back();
        for (int64_t i = 0; i < n; i++)
            weight.push_back(i % 7 == 3 ? (int64_t{1} << 30) + i : i % 5 + 1);
        here.push_back(records.draw(n, unsigned(members.size()), false));
        there.push_back(records.draw(n, unsigned(members.size()), true));
        wanted.emplace_back(head.size() * numbers);
        rows += head.size();
    }
    auto* const block = reinterpret_cast<float*>(device->allocate(int64_t(rows * numbers * sizeof(float))));
    std::vector<kvc::FoldJob> jobs;
    std::vector<float> all;
    float* at = block;
    for (size_t i = 0; i < members.size(); i++) {
        const auto job = [&](const TokenRecords::List& list, float* out) {
            return kvc::FoldJob{&f, list.list(), weights[i].data(), ends[i].data(), int64_t(members[i].size()), new_keys, out};
        };
        kvc_plain::fold(device->records(), job(here[i], wanted[i].data()), [](const std::byte* record) { return record; });
        all.insert(all.end(), wanted[i].begin(), wanted[i].end());
        jobs.push_back(job(there[i], at));
        at += wanted[i].size();
    }
    const kvc::Status status = device->fold(jobs);
    REQUIRE_MESSAGE(status.ok(), status.message);
    std::vector<float> got(all.size());
    REQUIRE(device->read(reinterpret_cast<const std::byte*>(block), reinterpret_cast<std::byte*>(got.data()), int64_t(4 * got.size()))
                .ok());
    device->release(reinterpret_cast<std::byte*>(block));
    CHECK(got == all);
}

}  // namespace kvc_test
