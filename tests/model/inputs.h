// What the lines of a script mean as numbers: shapes, buffers and their contents. Used by the replayer and by the model's run.
#pragma once

#include <kvc.h>
#include <map>
#include <string>
#include <vector>

#include "tests/model/script.h"
#include "tests/reference/test_data.h"

namespace kvc_scripts {

// Shapes and options of the cache as the script gave them.
// The smallest head dim that there are kernels for, where a program's device has none for others: it stands for all below it in create and
// layer lines. 0: none.
int64_t& smallest_head_dim();

struct ScriptShapes {
    std::map<int64_t, Operation> lines;  // "layer" lines by number
    kvc_options options{};
    std::vector<kvc_layer> layers;  // always options.layers of them, zeros resolved

    void create(const Operation& operation);
    bool uniform() const { return lines.empty(); }
    bool tight() const { return options.arena_growth == 0; }  // memory may run out
    // The layer that an operation names, or the first one if there is no such layer.
    const kvc_layer& layer_of(const Operation& operation) const;
};

// A buffer in a caller's element type, rows padded by `padding` elements that nobody may touch.
struct Buffer {
    int32_t dtype = KVC_F32;
    int64_t rows = 0, width = 0, padding = 0;
    std::vector<uint8_t> bytes;

    Buffer(int32_t dtype, int64_t rows, int64_t width, int64_t padding);
    int64_t size() const { return static_cast<int64_t>(bytes.size()); }
    void set_row(int64_t row, const float* from);
    std::vector<float> values() const;  // without padding
    bool padding_untouched() const;
    static int64_t element_bytes(int32_t dtype) { return dtype == KVC_F32 ? 4 : 2; }
};

struct StepRecord {
    kvc_step* handle = nullptr;
    std::vector<std::string> sequences;
    std::vector<int64_t> counts, first;  // first: position of the first new token
    std::vector<uint64_t> data;
    int32_t kv_dtype = KVC_F32, q_dtype = KVC_F32, out_dtype = KVC_F32;
    int64_t padding = 0;
    int64_t tokens() const;
};

// [layers acted on][heads acted on][tokens] of an evict line.
std::vector<float> evict_scores(const Operation& operation, const ScriptShapes& shapes, uint64_t data, int64_t tokens);
// The same of a merge line: the token that each one joins, itself or -1.
std::vector<int32_t> merge_clusters(const Operation& operation, const ScriptShapes& shapes, uint64_t data, int64_t tokens);
// The numbers that an append or attend of this step is fed with, [tokens][heads * dim].
std::vector<float> input(const Operation& operation, const ScriptShapes& shapes, const StepRecord& step, kvc_reference::Part part);
// The token ids of a publish, lookup or unpublish line: those of `text`, from index `turn` on those of `other`.
std::vector<int64_t> prompt_tokens(const Operation& operation);
std::vector<float> sink_logits_of(const Operation& operation, const ScriptShapes& shapes);
int32_t dtype_of(const std::string& word);
int32_t part_of(const Operation& operation);
int32_t cut_of(const Operation& operation);

}  // namespace kvc_scripts
