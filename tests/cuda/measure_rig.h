// Records of a head's tokens in all their forms, on a device and on the host, and lists of tokens that lie in them.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/backend/device.h"
#include "tests/cuda/recode_rig.h"

namespace kvc_test {

// Sinks, coded pages at every rung of a ladder, and a page of the window.
class TokenRecords {
public:
    // codecs: of the layer, then its lower rungs.
    TokenRecords(const std::shared_ptr<kvc::Device>& device, const std::vector<std::string>& codecs, int k_dim, int v_dim);

    const LayerFormat& format() const { return *formats_[0]; }
    // So many tokens, from records and slots that a seed draws; those of `there` or of the host's copies.
    struct List {
        std::vector<kvc::TokenSource> sources;
        std::vector<uint32_t> places;
        kvc::TokenList list() const { return {sources.data(), int64_t(sources.size()), places.data(), int64_t(places.size())}; }
    };
    List draw(int64_t tokens, unsigned seed, bool there) const;

private:
    struct Record {
        const LayerFormat* format;
        KernelTable::Form form;
        int64_t at;
        int slots;
    };
    Blocks blocks_;
    std::vector<std::unique_ptr<LayerFormat>> formats_;
    std::vector<Record> records_;
};

// All statistics of heads with so many tokens each, by the device and by the host: the same bits.
void check_measures(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records, const std::vector<int64_t>& tokens);

// Heads with so many tokens that leave and that stay: each finds the same one, whatever the least cosine.
void check_routes(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records,
                  const std::vector<std::pair<int64_t, int64_t>>& leaving_and_kept, double least);

// Heads whose folds have so many members: the same means.
void check_folds(const std::shared_ptr<kvc::Device>& device, const TokenRecords& records,
                 const std::vector<std::vector<int64_t>>& members, bool new_keys);

}  // namespace kvc_test
