// What concerns a cache as a whole: its end, tables of the model, device memory, prefix index, statistics, snapshots.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arguments.h"
#include "array.h"
#include "shape.h"
#include "structs.h"

namespace kvc_python {
namespace {

using Numbers = std::vector<int64_t>;

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

void sink_logits_set(uint64_t cache, Whole<"sink_logits_set", "layer"> layer, nb::handle logits) {
    if (logits.is_none()) return call("sink_logits_set", kvc_sink_logits_set, cache_of(cache), layer, nullptr, int64_t{0});
    const Array given("sink_logits_set", "logits", logits, {KVC_F32});
    call("sink_logits_set", kvc_sink_logits_set, cache_of(cache), layer, given.as<float>(), given.elements());
}

void rope_frequencies_set(uint64_t cache, Whole<"rope_frequencies_set", "layer"> layer, nb::handle frequencies) {
    const Array given("rope_frequencies_set", "frequencies", frequencies, {dtype_f64});
    call("rope_frequencies_set", kvc_rope_frequencies_set, cache_of(cache), layer, given.as<double>(), given.elements());
}

// ---- Device memory ----

uint64_t buffer_create(uint64_t cache, Whole<"buffer_create", "kind", int32_t> kind, Whole<"buffer_create", "size"> bytes) {
    const auto made = reinterpret_cast<uint64_t>(make("buffer_create", kvc_buffer_create, cache_of(cache), kind, bytes));
    remember_buffer(cache, made, bytes, kind == KVC_BUFFER_PINNED);
    return made;
}

void buffer_destroy(uint64_t cache, Whole<"buffer_destroy", "kind", int32_t> kind, uint64_t buffer) {
    forget_buffer(buffer);  // first: once it is gone its address can be another's
    call("buffer_destroy", kvc_buffer_destroy, cache_of(cache), kind, pointer(buffer));
}

// One side is the binding's own buffer, so that the names can only be those of the other.
using Address = Whole<"buffer_copy", "address", uint64_t>;
using Place = Whole<"buffer_copy", "device", int32_t>;
void buffer_copy(uint64_t cache, Address to, Place to_device, Address from, Place from_device, Whole<"buffer_copy", "size"> bytes) {
    call("buffer_copy", kvc_buffer_copy, cache_of(cache), pointer(to), to_device, pointer(from), from_device, bytes);
}

// The same between a buffer that has room for so many bytes, and an array of any numbers on either side.
template <bool to_array>
void buffer_copy_array(uint64_t cache, uint64_t buffer, int32_t device, int64_t room, nb::handle array) {
    const Array other("buffer_copy", to_array ? "target" : "source", array, {.dtype = 0, .device = KVC_DEVICE_DEFAULT}, to_array);
    const int64_t bytes = other.bytes();
    if (bytes > room) refuse("buffer_copy", std::to_string(bytes) + " bytes, and the buffer has " + std::to_string(room));
    if (to_array)
        call("buffer_copy", kvc_buffer_copy, cache_of(cache), other.data(), other.device(), pointer(buffer), device, bytes);
    else
        call("buffer_copy", kvc_buffer_copy, cache_of(cache), pointer(buffer), device, other.data(), other.device(), bytes);
}

// Memory at an address as a DLPack array, which keeps its owner alive.
nb::ndarray<nb::array_api> view(uint64_t address, const std::vector<size_t>& shape, int32_t dtype, int32_t device, int64_t ordinal,
                                nb::handle owner) {
    const nb::dlpack::dtype type{uint8_t(dtype / 256), uint8_t(dtype % 256), 1};
    return nb::ndarray<nb::array_api>(pointer(address), shape.size(), shape.data(), owner, nullptr, type, device, int32_t(ordinal));
}

// ---- Graphs ----

uint64_t graph_create(uint64_t cache, const Listed<"graph_create", "counts">& counts, Whole<"graph_create", "max_tokens"> max_tokens,
                      Whole<"graph_create", "attends"> attends, Whole<"graph_create", "slots"> slots) {
    return reinterpret_cast<uint64_t>(
        make("graph_create", kvc_graph_create, cache_of(cache), counts.data(), counts.size(), max_tokens, attends, slots));
}

void graph_destroy(uint64_t graph) { call("graph_destroy", kvc_graph_destroy, reinterpret_cast<kvc_graph*>(graph)); }

// ---- Prefix index ----

void prefix_publish(uint64_t cache, Whole<"prefix_publish", "sequence"> sequence, nb::handle tokens, Salt salt, nb::dict values) {
    const Array ids("prefix_publish", "tokens", tokens, {dtype_i64});
    const auto o = options<kvc_prefix_options>("prefix_publish", kvc_prefix_options_init, values);
    call("prefix_publish", kvc_prefix_publish, cache_of(cache), sequence, ids.as<int64_t>(), ids.elements(), salt.data, salt.size, &o);
}

std::pair<int64_t, nb::dict> prefix_lookup(uint64_t cache, nb::handle tokens, Salt salt, nb::dict values) {
    const Array ids("prefix_lookup", "tokens", tokens, {dtype_i64});
    const auto o = options<kvc_seq_options>("prefix_lookup", kvc_seq_options_init, values);
    auto hit = blank<kvc_prefix_hit>();
    const kvc_seq made =
        make("prefix_lookup", kvc_prefix_lookup, cache_of(cache), ids.as<int64_t>(), ids.elements(), salt.data, salt.size, &o, &hit);
    return {made, as_dict(hit)};
}

int64_t prefix_remove(uint64_t cache, nb::handle tokens, Salt salt) {
    const Array ids("prefix_remove", "tokens", tokens, {dtype_i64});
    int64_t removed = 0;
    call("prefix_remove", kvc_prefix_remove, cache_of(cache), ids.as<int64_t>(), ids.elements(), salt.data, salt.size, &removed);
    return removed;
}

// ---- Snapshots ----

// Straight into the bytes object that Python gets. Other threads may commit after the size was told: what does not fit is asked for again,
// each time with more room to spare.
nb::bytes snapshot_export(uint64_t cache, const Listed<"snapshot_export", "sequences", true>& sequences) {
    const auto run = [&](void* out, int64_t room) {
        int64_t bytes = 0;
        call("snapshot_export", kvc_snapshot_export, cache_of(cache), sequences.data(), sequences.size(), out, room, &bytes);
        return bytes;
    };
    for (int64_t spare = 0;;) {
        const int64_t size = run(nullptr, 0), room = size + spare;  // refuses all that is wrong but the room
        PyObject* out = PyBytes_FromStringAndSize(nullptr, room);
        if (!out) throw nb::python_error();
        nb::object held = nb::steal(out);
        try {
            const int64_t bytes = run(PyBytes_AS_STRING(out), room);
            out = held.release().ptr();
            if (bytes != room && _PyBytes_Resize(&out, bytes)) throw nb::python_error();
            return nb::steal<nb::bytes>(out);
        } catch (const Failure& refusal) {
            if (refusal.status != KVC_E_ARGUMENT) throw;
            spare = std::max(2 * spare, size / 4);
        }
    }
}

// bytes, bytearray, memoryview, mmap: anything contiguous.
struct Bytes {
    explicit Bytes(nb::handle from) {
        if (!PyObject_CheckBuffer(from.ptr())) refuse_type("snapshot", "bytes, or another buffer", from);
        if (PyObject_GetBuffer(from.ptr(), &view, PyBUF_SIMPLE)) {
            PyErr_Clear();
            refuse("snapshot_import",
                   std::string("snapshot is a ") + nb::type_name(from.type()).c_str() + "; it must be contiguous bytes");
        }
    }
    ~Bytes() { PyBuffer_Release(&view); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    Py_buffer view{};
};

// How many sequences a snapshot holds; its bytes are checked.
template <class... From, class Function>
int64_t checked(const char* operation, Function function, uint64_t cache, From... from) {
    int64_t n = 0;
    call(operation, function, cache_of(cache), from..., nullptr, int64_t{0}, &n);
    return n;
}

// A file may be replaced after its number was told: one that holds more sequences is asked for again, with room for more.
template <class... From, class Function>
Numbers imported(const char* operation, Function function, uint64_t cache, From... from) {
    constexpr int64_t most_spare = 1 << 20;
    for (int64_t spare = 0;; spare = std::max(64 * spare, int64_t{64})) {
        int64_t n = checked(operation, function, cache, from...) + spare;
        Numbers out(size_t(n) + 1);
        try {
            call(operation, function, cache_of(cache), from..., out.data(), n, &n);
            out.resize(size_t(n));
            return out;
        } catch (const Failure& refusal) {
            if (refusal.status != KVC_E_ARGUMENT || spare >= most_spare) throw;
        }
    }
}

Numbers snapshot_import(uint64_t cache, nb::handle data) {
    const Bytes bytes(data);
    return imported("snapshot_import", kvc_snapshot_import, cache, static_cast<const void*>(bytes.view.buf), int64_t(bytes.view.len));
}

int64_t snapshot_check(uint64_t cache, nb::handle data) {
    const Bytes bytes(data);
    return checked("snapshot_import", kvc_snapshot_import, cache, static_cast<const void*>(bytes.view.buf), int64_t(bytes.view.len));
}

Numbers snapshot_load(uint64_t cache, const Path<"snapshot_load", "path">& path) {
    return imported("snapshot_load", kvc_snapshot_load, cache, path.text());
}

int64_t snapshot_check_file(uint64_t cache, const Path<"snapshot_load", "snapshot">& path) {
    return checked("snapshot_load", kvc_snapshot_load, cache, path.text());
}

void snapshot_save(uint64_t cache, const Listed<"snapshot_save", "sequences", true>& sequences,
                   const Path<"snapshot_save", "path">& path) {
    call("snapshot_save", kvc_snapshot_save, cache_of(cache), sequences.data(), sequences.size(), path.text());
}

// ---- Statistics ----

nb::dict stats_get(uint64_t cache) {
    auto out = blank<kvc_stats>();
    call("stats_get", kvc_stats_get, cache_of(cache), &out);
    return as_dict(out);
}

nb::dict seq_stats_get(uint64_t cache, Whole<"seq_stats_get", "sequence"> sequence) {
    auto out = blank<kvc_seq_stats>();
    call("seq_stats_get", kvc_seq_stats_get, cache_of(cache), sequence, &out);
    return as_dict(out);
}

nb::dict prefix_stats_get(uint64_t cache) {
    auto out = blank<kvc_prefix_stats>();
    call("prefix_stats_get", kvc_prefix_stats_get, cache_of(cache), &out);
    return as_dict(out);
}

}  // namespace

void define_cache(nb::module_& m) {
    m.def(
        "destroy",
        [](uint64_t cache) {
            call("destroy", kvc_destroy, cache_of(cache));
            forget_shapes(cache);
            forget_dropped_steps(cache);
        },
        nb::arg("cache"));
    m.def("synchronize", [](uint64_t cache) { call("synchronize", kvc_synchronize, cache_of(cache)); }, nb::arg("cache"));
    m.def("sink_logits_set", &sink_logits_set, nb::arg("cache"), any("layer"), nb::arg("logits").none(),
          nb::sig("def sink_logits_set(cache: int, layer: int, logits: Array | None) -> None"));
    m.def("rope_frequencies_set", &rope_frequencies_set, nb::arg("cache"), any("layer"), any("frequencies"),
          nb::sig("def rope_frequencies_set(cache: int, layer: int, frequencies: Array) -> None"));
    m.def("buffer_create", &buffer_create, nb::arg("cache"), any("kind"), any("bytes"));
    m.def("buffer_destroy", &buffer_destroy, nb::arg("cache"), any("kind"), nb::arg("buffer"));
    m.def("buffer_copy", &buffer_copy, nb::arg("cache"), any("to"), any("to_device"), any("from_"), any("from_device"), any("bytes"));
    m.def("buffer_copy_from", &buffer_copy_array<false>, nb::arg("cache"), nb::arg("buffer"), nb::arg("device"), nb::arg("room"),
          any("array"), nb::sig("def buffer_copy_from(cache: int, buffer: int, device: int, room: int, array: Array) -> None"));
    m.def("buffer_copy_to", &buffer_copy_array<true>, nb::arg("cache"), nb::arg("buffer"), nb::arg("device"), nb::arg("room"),
          any("array"), nb::sig("def buffer_copy_to(cache: int, buffer: int, device: int, room: int, array: Array) -> None"));
    m.def("graph_create", &graph_create, nb::arg("cache"), any("counts"), any("max_tokens"), any("attends"), any("slots"));
    m.def("graph_destroy", &graph_destroy, nb::arg("graph"));
    m.def("view", &view, nb::arg("address"), nb::arg("shape"), nb::arg("dtype"), nb::arg("device"), nb::arg("ordinal"),
          nb::arg("owner"),
          nb::sig("def view(address: int, shape: collections.abc.Sequence[int], dtype: int, device: int, ordinal: int, "
                  "owner: object) -> Array"));
    m.def("prefix_publish", &prefix_publish, nb::arg("cache"), any("sequence"), any("tokens"), any("salt"), nb::arg("options"),
          nb::sig("def prefix_publish(cache: int, sequence: int, tokens: Array, salt: bytes, options: dict) -> None"));
    m.def("prefix_lookup", &prefix_lookup, nb::arg("cache"), any("tokens"), any("salt"), nb::arg("options"),
          nb::sig("def prefix_lookup(cache: int, tokens: Array, salt: bytes, options: dict) -> tuple[int, dict]"));
    m.def("prefix_remove", &prefix_remove, nb::arg("cache"), any("tokens"), any("salt"),
          nb::sig("def prefix_remove(cache: int, tokens: Array, salt: bytes) -> int"));
    m.def("prefix_clear", [](uint64_t cache) { call("prefix_clear", kvc_prefix_clear, cache_of(cache)); }, nb::arg("cache"));
    m.def(
        "prefix_budget_set",
        [](uint64_t cache, Whole<"prefix_budget_set", "budget_bytes"> bytes) {
            call("prefix_budget_set", kvc_prefix_budget_set, cache_of(cache), bytes);
        },
        nb::arg("cache"), any("bytes"));
    m.def("prefix_stats_get", &prefix_stats_get, nb::arg("cache"));
    m.def("snapshot_export", &snapshot_export, nb::arg("cache"), any("sequences"));
    m.def("snapshot_import", &snapshot_import, nb::arg("cache"), any("snapshot"),
          nb::sig("def snapshot_import(cache: int, snapshot: bytes | bytearray | memoryview) -> list[int]"));
    m.def("snapshot_check", &snapshot_check, nb::arg("cache"), any("snapshot"),
          nb::sig("def snapshot_check(cache: int, snapshot: bytes | bytearray | memoryview) -> int"));
    m.def("snapshot_check_file", &snapshot_check_file, nb::arg("cache"), any("path"));
    m.def("snapshot_save", &snapshot_save, nb::arg("cache"), any("sequences"), any("path"));
    m.def("snapshot_load", &snapshot_load, nb::arg("cache"), any("path"));
    m.def("stats_get", &stats_get, nb::arg("cache"));
    m.def("seq_stats_get", &seq_stats_get, nb::arg("cache"), any("sequence"));
}

}  // namespace kvc_python
