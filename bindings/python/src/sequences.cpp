// Sequences: their life, eviction, merging, precision, and what can be read back of them.
#include <nanobind/stl/optional.h>
#include <structmember.h>

#include "arguments.h"
#include "array.h"
#include "structs.h"

namespace kvc_python {

PyObject* index_of_number(PyObject* number) { return PyLong_FromLongLong(reinterpret_cast<const Number*>(number)->value); }

namespace {

// The base of kvc.Sequence.
nb::object number_type() {
    static PyMemberDef members[] = {{"_handle", T_LONGLONG, offsetof(Number, value), 0, nullptr}, {}};
    static PyType_Slot slots[] = {{Py_nb_index, reinterpret_cast<void*>(index_of_number)}, {Py_tp_members, members}, {0, nullptr}};
    static PyType_Spec spec = {"kvc._kvc.Number", sizeof(Number), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    nb::object type = nb::steal(PyType_FromSpec(&spec));
    if (!type.is_valid()) throw nb::python_error();
    return type;
}

int64_t seq_create(uint64_t cache, nb::dict values) {
    end_dropped_steps(cache);
    const auto o = options<kvc_seq_options>("seq_create", kvc_seq_options_init, values);
    return make("seq_create", kvc_seq_create, cache_of(cache), &o);
}

void seq_destroy(uint64_t cache, Whole<"seq_destroy", "sequence"> sequence) {
    end_dropped_steps(cache);
    call("seq_destroy", kvc_seq_destroy, cache_of(cache), sequence);
}

int64_t seq_fork(uint64_t cache, Whole<"seq_fork", "sequence"> sequence, Whole<"seq_fork", "length"> length,
                 Whole<"seq_fork", "cut", int32_t> cut) {
    return make("seq_fork", kvc_seq_fork, cache_of(cache), sequence, length, cut);
}

void seq_truncate(uint64_t cache, Whole<"seq_truncate", "sequence"> sequence, Whole<"seq_truncate", "length"> length,
                  Whole<"seq_truncate", "cut", int32_t> cut) {
    call("seq_truncate", kvc_seq_truncate, cache_of(cache), sequence, length, cut);
}

void seq_prompt_set(uint64_t cache, Whole<"seq_prompt_set", "sequence"> sequence, Whole<"seq_prompt_set", "end"> end) {
    call("seq_prompt_set", kvc_seq_prompt_set, cache_of(cache), sequence, end);
}

void seq_budget_set(uint64_t cache, Whole<"seq_budget_set", "sequence"> sequence, Whole<"seq_budget_set", "budget"> budget) {
    call("seq_budget_set", kvc_seq_budget_set, cache_of(cache), sequence, budget);
}

template <auto function, class... Where>
int64_t number(const char* operation, uint64_t cache, int64_t sequence, Where... where) {
    int64_t out = 0;
    call(operation, function, cache_of(cache), sequence, where..., &out);
    return out;
}

// One number for each live token of a layer and kv head; returns how many these are.
template <auto function>
int64_t numbers(const char* operation, uint64_t cache, int64_t sequence, int64_t layer, int64_t head, nb::handle out) {
    const Written to(operation, out, dtype_i64);
    int64_t tokens = 0;
    call(operation, function, cache_of(cache), sequence, layer, head, to.as<int64_t>(), to.elements(), &tokens);
    return tokens;
}

// ---- Eviction, merging, precision ----

nb::dict evict(uint64_t cache, Whole<"evict", "sequence"> sequence, nb::handle scores, nb::dict values) {
    const auto o = options<kvc_evict_options>("evict", kvc_evict_options_init, values);
    auto report = blank<kvc_evict_report>();
    if (scores.is_none()) {
        call("evict", kvc_evict, cache_of(cache), sequence, nullptr, int64_t{0}, &o, &report);
    } else {
        const Array given("evict", "scores", scores, {KVC_F32});
        call("evict", kvc_evict, cache_of(cache), sequence, given.as<float>(), given.elements(), &o, &report);
    }
    return as_dict(report);
}

nb::dict evict_keep(uint64_t cache, Whole<"evict_keep", "sequence"> sequence, nb::handle positions, nb::dict values) {
    const auto o = options<kvc_evict_options>("evict_keep", kvc_evict_options_init, values);
    auto report = blank<kvc_evict_report>();
    const Array kept("evict_keep", "positions", positions, {dtype_i64});
    call("evict_keep", kvc_evict_keep, cache_of(cache), sequence, kept.as<int64_t>(), kept.elements(), &o, &report);
    return as_dict(report);
}

nb::dict merge(uint64_t cache, Whole<"merge", "sequence"> sequence, nb::handle clusters, nb::dict values) {
    const auto o = options<kvc_merge_options>("merge", kvc_merge_options_init, values);
    auto report = blank<kvc_evict_report>();
    const Array given("merge", "clusters", clusters, {dtype_i32});
    call("merge", kvc_merge, cache_of(cache), sequence, given.as<int32_t>(), given.elements(), &o, &report);
    return as_dict(report);
}

nb::dict step_down(uint64_t cache, Whole<"step_down", "sequence"> sequence, nb::dict values) {
    const auto o = options<kvc_step_down_options>("step_down", kvc_step_down_options_init, values);
    auto report = blank<kvc_step_down_report>();
    call("step_down", kvc_step_down, cache_of(cache), sequence, &o, &report);
    return as_dict(report);
}

// ---- Read-back ----

void seq_read(uint64_t cache, Whole<"seq_read", "sequence"> sequence, Whole<"seq_read", "layer"> layer, Whole<"seq_read", "head"> head,
              Whole<"seq_read", "part", int32_t> part, Whole<"seq_read", "first"> first, Whole<"seq_read", "count"> n, nb::handle out) {
    const Written to("seq_read", out, KVC_F32);
    call("seq_read", kvc_seq_read, cache_of(cache), sequence, layer, head, part, first, n, to.as<float>(), to.bytes());
}

// Tokens in compressed pages; without out only their number.
int64_t seq_read_codes(uint64_t cache, Whole<"seq_read_codes", "sequence"> sequence, Whole<"seq_read_codes", "layer"> layer,
                       Whole<"seq_read_codes", "head"> head, Whole<"seq_read_codes", "part", int32_t> part, nb::handle out) {
    int64_t tokens = 0;
    const auto run = [&](uint8_t* codes, int64_t bytes) {
        call("seq_read_codes", kvc_seq_read_codes, cache_of(cache), sequence, layer, head, part, codes, bytes, &tokens);
        return tokens;
    };
    if (out.is_none()) return run(nullptr, 0);
    const Written to("seq_read_codes", out, dtype_u8);
    return run(to.as<uint8_t>(), to.bytes());
}

template <auto function, Name name>
void define_number(nb::module_& m) {
    m.def(
        name.text, [](uint64_t cache, Whole<name, "sequence"> sequence) { return number<function>(name.text, cache, sequence); },
        nb::arg("cache"), any("sequence"));
}

template <auto function, Name name>
void define_numbers(nb::module_& m) {
    const std::string signature =
        std::string("def ") + name.text + "(cache: int, sequence: int, layer: int, head: int, out: Array) -> int";
    m.def(
        name.text,
        [](uint64_t cache, Whole<name, "sequence"> sequence, Whole<name, "layer"> layer, Whole<name, "head"> head, nb::handle out) {
            return numbers<function>(name.text, cache, sequence, layer, head, out);
        },
        nb::arg("cache"), any("sequence"), any("layer"), any("head"), any("out"), nb::sig(signature.c_str()));
}

void define_reading(nb::module_& m) {
    define_number<&kvc_seq_length, "seq_length">(m);
    define_number<&kvc_seq_exact_floor, "seq_exact_floor">(m);
    define_number<&kvc_seq_step_limit, "seq_step_limit">(m);
    m.def(
        "seq_live",
        [](uint64_t cache, Whole<"seq_live", "sequence"> sequence, Whole<"seq_live", "layer"> layer, Whole<"seq_live", "head"> head) {
            return number<&kvc_seq_live>("seq_live", cache, sequence, layer, head);
        },
        nb::arg("cache"), any("sequence"), any("layer"), any("head"));
    define_numbers<&kvc_seq_positions, "seq_positions">(m);
    define_numbers<&kvc_seq_read_counts, "seq_read_counts">(m);
    define_numbers<&kvc_seq_read_rungs, "seq_read_rungs">(m);
    define_numbers<&kvc_seq_read_mass, "seq_read_mass">(m);
    m.def("seq_read", &seq_read, nb::arg("cache"), any("sequence"), any("layer"), any("head"), any("part"), any("first"), any("count"),
          any("out"),
          nb::sig(
              "def seq_read(cache: int, sequence: int, layer: int, head: int, part: int, first: int, count: int, out: Array) -> None"));
    m.def("seq_read_codes", &seq_read_codes, nb::arg("cache"), any("sequence"), any("layer"), any("head"), any("part"), any("out"),
          nb::sig("def seq_read_codes(cache: int, sequence: int, layer: int, head: int, part: int, out: Array | None) -> int"));
}

}  // namespace

void define_sequences(nb::module_& m) {
    m.attr("Number") = number_type();
    m.def("seq_create", &seq_create, nb::arg("cache"), nb::arg("options"));
    m.def("seq_destroy", &seq_destroy, nb::arg("cache"), any("sequence"));
    m.def("seq_fork", &seq_fork, nb::arg("cache"), any("sequence"), any("length"), any("cut"));
    m.def("seq_truncate", &seq_truncate, nb::arg("cache"), any("sequence"), any("length"), any("cut"));
    m.def("seq_prompt_set", &seq_prompt_set, nb::arg("cache"), any("sequence"), any("end"));
    m.def("seq_budget_set", &seq_budget_set, nb::arg("cache"), any("sequence"), any("budget"));
    m.def("evict", &evict, nb::arg("cache"), any("sequence"), any("scores"), nb::arg("options"),
          nb::sig("def evict(cache: int, sequence: int, scores: Array | None, options: dict) -> dict"));
    m.def("evict_keep", &evict_keep, nb::arg("cache"), any("sequence"), any("positions"), nb::arg("options"),
          nb::sig("def evict_keep(cache: int, sequence: int, positions: Array, options: dict) -> dict"));
    m.def("merge", &merge, nb::arg("cache"), any("sequence"), any("clusters"), nb::arg("options"),
          nb::sig("def merge(cache: int, sequence: int, clusters: Array, options: dict) -> dict"));
    m.def("step_down", &step_down, nb::arg("cache"), any("sequence"), nb::arg("options"));
    define_reading(m);
}

}  // namespace kvc_python
