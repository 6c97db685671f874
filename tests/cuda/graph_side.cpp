#include "tests/cuda/graph_side.h"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <sstream>

#include "core/base/half.h"

namespace kvc_graphs {
namespace {

uint32_t mixed(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return uint32_t(x >> 33);
}

void add_bytes(Bytes* to, const void* from, size_t n) {
    const auto* const first = static_cast<const uint8_t*>(from);
    to->insert(to->end(), first, first + n);
}

}  // namespace

void require(kvc_status status, const kvc_error& error) {
    INFO(error.message);
    REQUIRE(status == KVC_OK);
}

Side::Side(const Setup& given) : setup(given), seqs(given.counts.size()), data_(given.counts.size()) {
    kvc_error error = {sizeof error, 0, ""};
    kvc_options o;
    kvc_options_init(&o, sizeof o);
    o.device = KVC_CUDA, o.device_ordinal = setup.ordinal;
    o.arena_growth = setup.arena_block ? 0 : 1, o.arena_block = setup.arena_block, o.arena_bytes = setup.arena_bytes;
    o.layers = setup.layers, o.kv_heads = setup.kv_heads, o.q_heads = setup.q_heads, o.k_dim = setup.k_dim;
    o.sliding_window = setup.sliding_window, o.spare_pages = setup.spare_pages;
    o.allocate = setup.memory.allocate, o.release = setup.memory.release, o.allocator_context = setup.memory.context;
    std::strncpy(o.codec, setup.codec.c_str(), sizeof o.codec - 1);
    std::strncpy(o.policy, setup.policy.c_str(), sizeof o.policy - 1);
    if (setup.keys_before_rope || setup.in_cache) {
        o.keys = setup.keys_before_rope ? KVC_KEYS_BEFORE_ROPE : KVC_KEYS_AFTER_ROPE;
        o.positions = setup.in_cache ? KVC_POSITIONS_IN_CACHE : KVC_POSITIONS_TRUE;
        o.rope_theta = 10000;
    }
    cache = kvc_create(&o, nullptr, 0, &error);
    INFO(error.message);
    REQUIRE(cache != nullptr);
    const std::vector<float> logits(size_t(setup.q_heads), 0.5f);
    for (int64_t layer = 0; layer < setup.layers; layer++) {
        if (setup.sink_logits) {
            require(kvc_sink_logits_set(cache, layer, logits.data(), setup.q_heads, &error), error);
        }
        for (int64_t kind = 0; kind < 3; kind++) {
            in_[kind].push_back(make(heads_of(kind), setup.k_dim, unit()));
        }
        out_.push_back(make(setup.q_heads, setup.k_dim, 4));
        lse_.push_back(make(setup.q_heads, 1, 4));
    }
    const kvc::cuda::Selection selection(int(setup.ordinal));
    stream = *kvc::cuda::runtime::create_stream();
}

Side::~Side() {
    for (const auto* list : {&in_[0], &in_[1], &in_[2], &out_, &lse_}) {
        for (const Buffer& buffer : *list) {
            kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, buffer.at, nullptr);
        }
    }
    kvc_destroy(cache, nullptr);
    const kvc::cuda::Selection selection(int(setup.ordinal));
    if (launches) {
        kvc::cuda::runtime::destroy_graph(launches);
    }
    kvc::cuda::runtime::destroy_stream(stream);
}

Side::Buffer Side::make(int64_t heads, int64_t dim, int64_t unit) {
    kvc_error error = {sizeof error, 0, ""};
    const int64_t bytes = rows() * heads * dim * unit;
    void* const at = kvc_buffer_create(cache, KVC_BUFFER_DEVICE, bytes, &error);
    INFO(error.message);
    REQUIRE(at != nullptr);
    return {at, bytes};
}

int64_t Side::rows() const {
    int64_t rows = 0;
    for (const int64_t count : setup.counts) {
        rows += count;
    }
    return rows;
}

// Rows [n][heads][dim] of tokens first .. first + n; kind: keys, values, queries.
Bytes Side::numbers(size_t b, int64_t first, int64_t n, int64_t layer, int64_t kind) const {
    Bytes bytes;
    for (int64_t i = 0; i < n * heads_of(kind) * setup.k_dim; i++) {
        const int64_t row = heads_of(kind) * setup.k_dim, token = first + i / row;
        const uint64_t seed = uint64_t(((data_[b] * 4096 + token) * 64 + layer) * 4 + kind) << 24 | uint64_t(i % row);
        const float x = float(mixed(seed) % 4096) / 2048.0f - 1.0f;
        const uint16_t half = kvc::f16_from_f32(x);
        unit() == 4 ? add_bytes(&bytes, &x, 4) : add_bytes(&bytes, &half, 2);
    }
    return bytes;
}

void Side::add(size_t b, int64_t tokens, int64_t data) {
    kvc_error error = {sizeof error, 0, ""};
    if (seqs[b]) {
        require(kvc_seq_destroy(cache, seqs[b], &error), error);
    }
    data_[b] = data;
    seqs[b] = kvc_seq_create(cache, nullptr, &error);
    REQUIRE(seqs[b] != 0);
    kvc_step_options o;
    kvc_step_options_init(&o, sizeof o);
    o.kv_dtype = o.q_dtype = setup.dtype;
    for (int64_t at = 0; at < tokens;) {
        int64_t limit = 0;
        require(kvc_seq_step_limit(cache, seqs[b], &limit, &error), error);
        const int64_t n = std::min({tokens - at, int64_t{100}, limit});
        kvc_step* const step = kvc_step_begin(cache, &seqs[b], &n, 1, nullptr, 0, &o, &error);
        INFO(error.message);
        REQUIRE(step != nullptr);
        for (int64_t layer = 0; layer < setup.layers; layer++) {
            const Bytes k = numbers(b, at, n, layer, 0), v = numbers(b, at, n, layer, 1);
            require(kvc_append(step, layer, k.data(), int64_t(k.size()), v.data(), int64_t(v.size()), &error), error);
        }
        require(kvc_step_commit(step, nullptr, 0, &error), error);
        at += n;
    }
}

void Side::fork(size_t b, kvc_seq source, int64_t data) {
    kvc_error error = {sizeof error, 0, ""};
    int64_t length = 0;
    require(kvc_seq_length(cache, source, &length, &error), error);
    if (seqs[b]) {
        require(kvc_seq_destroy(cache, seqs[b], &error), error);
    }
    data_[b] = data;
    seqs[b] = kvc_seq_fork(cache, source, length, KVC_CUT_EXACT, &error);
    INFO(error.message);
    REQUIRE(seqs[b] != 0);
}

void Side::upload() {
    kvc_error error = {sizeof error, 0, ""};
    for (int64_t layer = 0; layer < setup.layers; layer++) {
        for (int64_t kind = 0; kind < 3; kind++) {
            Bytes bytes;
            for (size_t b = 0; b < seqs.size(); b++) {
                int64_t length = 0;
                require(kvc_seq_length(cache, seqs[b], &length, &error), error);
                const Bytes part = numbers(b, length, setup.counts[b], layer, kind);
                bytes.insert(bytes.end(), part.begin(), part.end());
            }
            const Buffer& to = in_[kind][size_t(layer)];
            require(kvc_buffer_copy(cache, to.at, KVC_CUDA, bytes.data(), KVC_CPU, int64_t(bytes.size()), &error), error);
        }
    }
}

void Side::spoil(size_t b) {
    kvc_error error = {sizeof error, 0, ""};
    const uint32_t nan = 0x7fc00000;
    std::byte* const row = static_cast<std::byte*>(in_[0][0].at) + int64_t(b + 1) * setup.kv_heads * setup.k_dim * 4;
    require(kvc_buffer_copy(cache, row - 4, KVC_CUDA, &nan, KVC_CPU, 4, &error), error);
}

kvc_step_options Side::options(bool named) const {
    kvc_step_options o;
    kvc_step_options_init(&o, sizeof o);
    o.kv_dtype = o.q_dtype = setup.dtype;
    o.buffers = KVC_CUDA, o.stream = stream;
    o.partial_commit = setup.partial_commit, o.strict = setup.strict;
    o.graph = named ? graph : nullptr;
    return o;
}

kvc_step* Side::begin(bool named) {
    kvc_error error = {sizeof error, 0, ""};
    const kvc_step_options o = options(named);
    kvc_step* const step = kvc_step_begin(cache, seqs.data(), setup.counts.data(), int64_t(seqs.size()), nullptr, 0, &o, &error);
    INFO(error.message);
    REQUIRE(step != nullptr);
    return step;
}

void Side::call_layers(kvc_step* step) {
    kvc_error error = {sizeof error, 0, ""};
    for (size_t layer = 0; layer < size_t(setup.layers); layer++) {
        const Buffer &k = in_[0][layer], &v = in_[1][layer], &q = in_[2][layer], &out = out_[layer], &lse = lse_[layer];
        require(kvc_append(step, int64_t(layer), k.at, k.bytes, v.at, v.bytes, &error), error);
        require(
            kvc_attend(step, int64_t(layer), q.at, q.bytes, out.at, out.bytes, static_cast<float*>(lse.at), lse.bytes, nullptr, &error),
            error);
    }
}

kvc_status Side::attend_again(kvc_step* step, int64_t layer, kvc_error* error) {
    const Buffer &q = in_[2][size_t(layer)], &out = out_[size_t(layer)];
    return kvc_attend(step, layer, q.at, q.bytes, out.at, out.bytes, nullptr, 0, nullptr, error);
}

void Side::commit(kvc_step* step, const std::vector<int64_t>& accepted) {
    kvc_error error = {sizeof error, 0, ""};
    require(kvc_step_commit(step, accepted.empty() ? nullptr : accepted.data(), int64_t(accepted.size()), &error), error);
}

Bytes Side::outputs() {
    kvc_error error = {sizeof error, 0, ""};
    Bytes all;
    for (const auto* list : {&out_, &lse_}) {
        for (const Buffer& from : *list) {
            Bytes bytes(size_t(from.bytes));
            require(kvc_buffer_copy(cache, bytes.data(), KVC_CPU, from.at, KVC_CUDA, from.bytes, &error), error);
            all.insert(all.end(), bytes.begin(), bytes.end());
        }
    }
    return all;
}

void Side::step() {
    upload();
    kvc_step* const step = begin(false);
    call_layers(step);
    commit(step);
}

void Side::create_graph() {
    kvc_error error = {sizeof error, 0, ""};
    graph = kvc_graph_create(cache, setup.counts.data(), int64_t(setup.counts.size()), setup.max_tokens, setup.attends, setup.slots,
                             &error);
    INFO(error.message);
    REQUIRE(graph != nullptr);
}

void Side::capture() {
    const kvc::cuda::Selection selection(int(setup.ordinal));
    REQUIRE(kvc::cuda::runtime::begin_capture(stream).ok());
    kvc_step* const step = begin(true);
    call_layers(step);
    commit(step);
    const auto captured = kvc::cuda::runtime::end_capture(stream);
    REQUIRE(captured.ok());
    if (launches) {
        kvc::cuda::runtime::destroy_graph(launches);
    }
    launches = *captured;
}

void Side::launch() {
    const kvc::cuda::Selection selection(int(setup.ordinal));
    const kvc::Status launched = kvc::cuda::runtime::launch(launches, stream);
    INFO(launched.message);
    REQUIRE(launched.ok());
}

void Side::replay(const std::vector<int64_t>& accepted) {
    upload();
    kvc_step* const step = begin(true);
    launch();
    commit(step, accepted);
}

Bytes Side::stored() const {
    kvc_error error = {sizeof error, 0, ""};
    Bytes all;
    for (const kvc_seq seq : seqs) {
        for (int64_t layer = 0; layer < setup.layers; layer++) {
            for (int64_t head = 0; head < setup.kv_heads; head++) {
                int64_t live = 0;
                require(kvc_seq_live(cache, seq, layer, head, &live, &error), error);
                std::vector<float> rows(size_t(live * setup.k_dim));
                std::vector<int64_t> positions(static_cast<size_t>(live));
                require(kvc_seq_positions(cache, seq, layer, head, positions.data(), live, nullptr, &error), error);
                add_bytes(&all, positions.data(), positions.size() * sizeof(int64_t));
                for (const int32_t part : {KVC_KEYS, KVC_VALUES}) {
                    if (live > 0) {
                        require(kvc_seq_read(cache, seq, layer, head, part, 0, live, rows.data(), live * setup.k_dim * 4, &error),
                                error);
                    }
                    add_bytes(&all, rows.data(), rows.size() * sizeof(float));
                    int64_t tokens = 0;
                    if (kvc_seq_read_codes(cache, seq, layer, head, part, nullptr, 0, &tokens, nullptr) == KVC_OK && tokens > 0) {
                        Bytes codes(size_t(tokens * setup.k_dim));
                        require(kvc_seq_read_codes(cache, seq, layer, head, part, codes.data(), int64_t(codes.size()), &tokens, &error),
                                error);
                        add_bytes(&all, codes.data(), codes.size());
                    }
                }
            }
        }
    }
    return all;
}

std::string Side::stats() const {
    kvc_error error = {sizeof error, 0, ""};
    kvc_stats s = {};
    s.struct_size = sizeof s;
    require(kvc_stats_get(cache, &s, &error), error);
    std::ostringstream text;
    text << s.open_steps << " steps, records " << s.record_bytes << " (" << s.sink_bytes << " " << s.window_bytes << " " << s.code_bytes
         << " " << s.side_bytes << "), reserved " << s.reserved_bytes << ", scratch " << s.scratch_bytes << ", sequences "
         << s.sequences << ", appended " << s.tokens_appended << ", evicted " << s.tokens_evicted << ", quantized " << s.pages_quantized
         << " " << s.tokens_requantized << ", slow " << s.slow_calls;
    return text.str();
}

// ---- pairs ----

Pair::Pair(const Setup& setup, const std::vector<int64_t>& lengths) : ordinary(setup), graphed(setup) {
    for (Side* const side : {&ordinary, &graphed}) {
        for (size_t b = 0; b < lengths.size(); b++) {
            side->add(b, lengths[b], int64_t(b) + 1);
        }
    }
    graphed.create_graph();
    graphed.capture();
}

void Pair::step(const std::vector<int64_t>& accepted) {
    ordinary.upload();
    kvc_step* const step = ordinary.begin(false);
    ordinary.call_layers(step);
    ordinary.commit(step, accepted);
    graphed.replay(accepted);
    CHECK(graphed.outputs() == ordinary.outputs());
}

void Pair::check_stored() {
    CHECK(graphed.stored() == ordinary.stored());
    CHECK(graphed.stats() == ordinary.stats());
}

}  // namespace kvc_graphs
