// Steps: the calls that a server makes for every layer of every token, straight into the library.
#include <map>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arguments.h"
#include "array.h"
#include "shape.h"
#include "structs.h"

namespace kvc_python {
namespace {

using Counts = Listed<"step_begin", "counts">;
using At = Listed<"step_begin", "positions", true>;
using Accepted = Listed<"step_commit", "accepted", true>;

// By cache; as all of Python's, under the GIL.
std::map<uint64_t, std::vector<kvc_step*>> dropped_steps;

// Of a step that nobody can reach any more; one that ended with its cache is no error.
void end_dropped(uint64_t cache, kvc_step* step) {
    kvc_status status;
    {
        nb::gil_scoped_release others_may_run;
        status = kvc_step_abort(step, nullptr);
    }
    if (status == KVC_E_CAPTURE) dropped_steps[cache].push_back(step);  // after the capture it succeeds
}

// What a step must outlive its end for: none of these may end before it.
struct Owners {
    nb::object cache, sequences, graph;
};

class Step {
public:
    Step(uint64_t cache, Owners owners, const std::vector<int64_t>& sequences, const Counts& counts, const At& positions,
         nb::dict values)
        : owners_(std::move(owners)), shapes_(shapes_of_cache(cache)) {
        if (int64_t(sequences.size()) != counts.size())
            refuse("step_begin",
                   std::to_string(sequences.size()) + " sequences but " + std::to_string(counts.size()) + " token counts");
        if (values.size() == 0) {  // as most steps are begun: they do not pay for the struct
            k_.cache = v_.cache = q_.cache = out_.cache = lse_.cache = cache;
            begin(cache, sequences, counts, positions, nullptr);
            return;
        }
        const kvc_step_options o = options<kvc_step_options>("step_begin", kvc_step_options_init, values);
        // The default stream of other libraries, such as PyTorch's: the library would take it for none, and a stream that does not wait for it.
        if (!o.stream && values.contains("stream") && !values["stream"].is_none())
            refuse("step_begin",
                   "stream 0 is the legacy default stream to some and no stream to others; say None for a stream of kvc's own, 1 for "
                   "the legacy "
                   "default stream or 2 for the thread's default stream (of PyTorch: torch.cuda.current_stream().cuda_stream or 1)");
        const int32_t device = o.buffers == KVC_DEVICE_DEFAULT ? int32_t{KVC_CPU} : o.buffers;
        k_ = {type_of(o.kv_dtype), o.k_token_stride, o.k_head_stride, device, cache};
        v_ = {type_of(o.kv_dtype), o.v_token_stride, o.v_head_stride, device, cache};
        q_ = {type_of(o.q_dtype), o.q_token_stride, o.q_head_stride, device, cache};
        out_ = {type_of(o.out_dtype), o.out_token_stride, o.out_head_stride, device, cache};
        lse_ = {KVC_F32, 0, 0, device, cache};
        begin(cache, sequences, counts, positions, &o);
    }
    // A step that nobody ended is aborted.
    ~Step() {
        if (is_open_) end_dropped(k_.cache, handle_);
    }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

    void append(Whole<"append", "layer"> layer, nb::handle k, nb::handle v) {
        const Shape* shape = shape_of(layer);
        const Array keys("append", "k", k, k_, stored(shape, &Shape::k_dim)),
            values("append", "v", v, v_, stored(shape, &Shape::v_dim));
        call("append", kvc_append, handle_, layer, keys.data(), keys.bytes(), values.data(), values.bytes());
    }

    // Both of a layer's calls; the GIL is away from the first to the end of the second.
    void append_attend(Whole<"append", "layer"> layer, nb::handle k, nb::handle v, nb::handle q, nb::handle out) {
        const Shape* shape = shape_of(layer);
        const Array keys("append", "k", k, k_, stored(shape, &Shape::k_dim)),
            values("append", "v", v, v_, stored(shape, &Shape::v_dim)), queries("attend", "q", q, q_, asked(shape, &Shape::k_dim)),
            results("attend", "out", out, out_, asked(shape, &Shape::v_dim), true);
        kvc_error error = empty_error();
        const char* operation = "append";
        kvc_status status;
        {
            nb::gil_scoped_release others_may_run;
            status = kvc_append(handle_, layer, keys.data(), keys.bytes(), values.data(), values.bytes(), &error);
            if (status == KVC_OK) {
                operation = "attend";
                status = kvc_attend(handle_, layer, queries.data(), queries.bytes(), results.data(), results.bytes(), nullptr, 0,
                                    nullptr, &error);
            }
        }
        if (status != KVC_OK) throw Failure{status, operation, error.message};
    }

    void attend(Whole<"attend", "layer"> layer, nb::handle q, nb::handle out, nb::handle lse, nb::handle settings) {
        const Shape* shape = shape_of(layer);
        const Array queries("attend", "q", q, q_, asked(shape, &Shape::k_dim)),
            results("attend", "out", out, out_, asked(shape, &Shape::v_dim), true);
        kvc_attend_options o;
        if (!settings.is_none()) o = options<kvc_attend_options>("attend", kvc_attend_options_init, dict_of("options", settings));
        const auto run = [&](float* sums, int64_t bytes) {
            call("attend", kvc_attend, handle_, layer, queries.data(), queries.bytes(), results.data(), results.bytes(), sums, bytes,
                 settings.is_none() ? nullptr : &o);
        };
        if (lse.is_none()) return run(nullptr, 0);
        const Array sums("attend", "lse", lse, lse_, shape ? Rows{tokens_, shape->q_heads, 1} : Rows{-1, 0, 0}, true);
        run(sums.as<float>(), sums.bytes());
    }

    // On failure the step stays open.
    void commit(const Accepted& accepted) {
        call("step_commit", kvc_step_commit, handle_, accepted.data(), accepted.size());
        is_open_ = false;
    }

    // May be called again, and after commit. On failure the step stays open, but for one that ended with its cache.
    void abort() {
        if (!std::exchange(is_open_, false)) return;
        try {
            call("step_abort", kvc_step_abort, handle_);
        } catch (const Failure& refusal) {
            is_open_ = refusal.status != KVC_E_HANDLE;
            throw;
        }
    }

    // The end of its with block: commits, unless an exception passes through or it was ended inside.
    void leave(bool failed) {
        if (!is_open_) return;
        if (failed) return abort();
        try {
            commit({});
        } catch (const Failure&) {
            try {
                abort();
            } catch (const Failure&) {  // it stays open, and why it was not committed is what the caller has to know
            }
            throw;
        }
    }

    bool is_open() const { return is_open_; }
    int64_t tokens() const { return tokens_; }
    nb::object cache() const { return owners_.cache; }
    int32_t out_dtype() const { return out_.dtype; }
    int32_t buffers() const { return out_.device; }

    // The collector's: Python objects may form cycles through a step.
    static int traverse(PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(Py_TYPE(self));
        if (!nb::inst_ready(self)) return 0;
        const Step* step = nb::inst_ptr<Step>(self);
        Py_VISIT(step->owners_.cache.ptr());
        Py_VISIT(step->owners_.sequences.ptr());
        Py_VISIT(step->owners_.graph.ptr());
        return 0;
    }
    static int clear(PyObject* self) {
        if (nb::inst_ready(self)) nb::inst_ptr<Step>(self)->owners_ = {};
        return 0;
    }

private:
    void begin(uint64_t cache, const std::vector<int64_t>& sequences, const Counts& counts, const At& positions,
               const kvc_step_options* options) {
        handle_ = make("step_begin", kvc_step_begin, cache_of(cache), sequences.data(), counts.data(), counts.size(), positions.data(),
                       positions.size(), options);
        is_open_ = true;
        for (const int64_t count : counts.values)
            tokens_ += count;
    }

    // Null if there is no such layer, or if the cache had ended before the step began: the library refuses both.
    const Shape* shape_of(int64_t layer) const {
        return layer >= 0 && layer < int64_t(shapes_->size()) ? &(*shapes_)[size_t(layer)] : nullptr;
    }
    Rows stored(const Shape* shape, int64_t Shape::* dim) const {
        return shape ? Rows{tokens_, shape->kv_heads, shape->*dim} : Rows{-1, 0, 0};
    }
    Rows asked(const Shape* shape, int64_t Shape::* dim) const {
        return shape ? Rows{tokens_, shape->q_heads, shape->*dim} : Rows{-1, 0, 0};
    }

    static int32_t type_of(int32_t dtype) { return dtype == KVC_DTYPE_DEFAULT ? int32_t{KVC_F32} : dtype; }

    kvc_step* handle_ = nullptr;  // kept when the step has ended: the library knows that it is stale
    bool is_open_ = false;
    int64_t tokens_ = 0;
    Owners owners_;
    std::shared_ptr<const Shapes> shapes_;
    Wanted k_, v_, q_, out_, lse_;
};

// A sequence of another cache could have the number of one of this.
void check_own(nb::handle cache, nb::handle sequence) {
    static const nb::handle kind = nb::object(nb::module_::import_("kvc.cache").attr("Sequence")).release();
    if (nb::isinstance(sequence, kind) && !sequence.attr("_cache").is(cache))
        throw Failure{KVC_E_HANDLE, "step_begin", "step_begin: a sequence belongs to another cache"};
}

// A step of that class, which is Step or a class over it, without the detour that Python takes to an __init__: of all that a step of one
// token costs beside its layers, that was the most.
nb::object step_begin(nb::handle kind, nb::object cache, uint64_t handle, nb::handle sequences, const Counts& counts,
                      const At& positions, nb::dict values, nb::object graph) {
    end_dropped_steps(handle);
    nb::object held = nb::steal(PySequence_Tuple(sequences.ptr()));  // which nobody can change
    if (!held.is_valid()) refuse_type("sequences", "a list", sequences);
    std::vector<int64_t> handles(size_t(PyTuple_GET_SIZE(held.ptr())));
    for (size_t i = 0; i < handles.size(); ++i) {
        const nb::handle sequence = PyTuple_GET_ITEM(held.ptr(), Py_ssize_t(i));
        check_own(cache, sequence);
        handles[i] = whole_of<int64_t>("step_begin", sequence, "sequences", "a list of kvc.Sequence or their numbers");
    }
    nb::object made = nb::inst_alloc(kind);
    new (nb::inst_ptr<Step>(made))
        Step(handle, {std::move(cache), std::move(held), std::move(graph)}, handles, counts, positions, values);
    nb::inst_mark_ready(made);
    return made;
}

PyType_Slot collected[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(Step::traverse)}, {Py_tp_clear, reinterpret_cast<void*>(Step::clear)}, {0, nullptr}};

}  // namespace

void end_dropped_steps(uint64_t cache) {
    const auto held = dropped_steps.extract(cache);
    if (held.empty()) return;
    for (kvc_step* step : held.mapped())
        end_dropped(cache, step);
}
void forget_dropped_steps(uint64_t cache) { dropped_steps.erase(cache); }

void define_step(nb::module_& m) {
    m.def(
        "step_begin", &step_begin, nb::arg("kind"), nb::arg("cache"), nb::arg("handle"), any("sequences"), any("counts"),
        any("positions"), nb::arg("options"), nb::arg("graph").none(),
        nb::sig("def step_begin(kind: type, cache: object, handle: int, sequences: collections.abc.Iterable, "
                "counts: collections.abc.Iterable, positions: collections.abc.Iterable | None, options: dict, graph: object) -> Step"));
    nb::class_<Step>(m, "Step", nb::is_weak_referenceable(), nb::type_slots(collected))
        .def("append", &Step::append, any("layer"), any("k"), any("v"),
             nb::sig("def append(self, layer: int, k: Array, v: Array) -> None"),
             "Stores keys [tokens, kv_heads, k_dim] and values [tokens, kv_heads, v_dim] of one layer; each layer once.")
        .def("append_attend", &Step::append_attend, any("layer"), any("k"), any("v"), any("q"), any("out"),
             nb::sig("def append_attend(self, layer: int, k: Array, v: Array, q: Array, out: Array) -> None"),
             "append and then attend_into of one layer, in one call. All arrays are checked first. If the library refuses the "
             "attention, "
             "which the exception's operation tells, the layer has been appended: attend_into can follow, or abort.")
        .def("attend_into", &Step::attend, any("layer"), any("q"), any("out"), nb::arg("lse") = nb::none(),
             nb::arg("options") = nb::none(),
             nb::sig("def attend_into(self, layer: int, q: Array, out: Array, lse: Array | None = None, "
                     "options: AttendOptions | None = None) -> None"),
             "attend without its conveniences: out is given, and the fields of kvc_attend_options come as a dict.")
        .def(
            "commit", &Step::commit, nb::arg("accepted") = nb::none(),
            nb::sig("def commit(self, accepted: collections.abc.Sequence[int] | None = None) -> None"),
            "Publishes all tokens, or the first accepted[i] of each sequence (needs partial_commit=1). On failure the step stays open.")
        .def("abort", &Step::abort,
             "Ends the step as if it had never begun. May be called again, and after commit. On failure the step stays open.")
        .def(
            "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> typing_extensions.Self"))
        .def(
            "__exit__", [](Step& step, nb::handle kind, nb::handle, nb::handle) { step.leave(!kind.is_none()); },
            nb::arg("kind").none(), nb::arg("value").none(), nb::arg("trace").none(),
            nb::sig("def __exit__(self, kind: object, value: object, trace: object) -> None"))
        .def_prop_ro("is_open", &Step::is_open, "Neither committed nor aborted.")
        .def_prop_ro("tokens", &Step::tokens, "Of all sequences of the step.")
        .def_prop_ro("_cache", &Step::cache)
        .def_prop_ro("_out_dtype", &Step::out_dtype)
        .def_prop_ro("_buffers", &Step::buffers);
}

}  // namespace kvc_python
