// Steps: the calls that a server makes for every layer of every token, straight into the library.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arguments.h"
#include "array.h"
#include "structs.h"

namespace kvc_python {
namespace {

class Step {
public:
    Step(uint64_t cache, const Listed<"sequences">& sequences, const Listed<"counts">& counts, const Listed<"positions">& positions,
         nb::dict values) {
        if (sequences.size() != counts.size())
            refuse("step_begin",
                   std::to_string(sequences.size()) + " sequences but " + std::to_string(counts.size()) + " token counts");
        const kvc_step_options o = options<kvc_step_options>("step_begin", kvc_step_options_init, values);
        const int32_t device = o.buffers == KVC_DEVICE_DEFAULT ? int32_t{KVC_CPU} : o.buffers;
        k_ = {type_of(o.kv_dtype), o.k_token_stride, o.k_head_stride, device};
        v_ = {type_of(o.kv_dtype), o.v_token_stride, o.v_head_stride, device};
        q_ = {type_of(o.q_dtype), o.q_token_stride, o.q_head_stride, device};
        out_ = {type_of(o.out_dtype), o.out_token_stride, o.out_head_stride, device};
        lse_ = {KVC_F32, 0, 0, device};
        handle_ = make("step_begin", kvc_step_begin, cache_of(cache), sequences.data(), counts.data(), sequences.size(),
                       positions.data(), positions.size(), &o);
        is_open_ = true;
    }
    // A step that nobody ended is aborted; one that ended with its cache is no error.
    ~Step() {
        if (!is_open_) return;
        nb::gil_scoped_release others_may_run;
        kvc_step_abort(handle_, nullptr);
    }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

    void append(Whole<"layer"> layer, nb::handle k, nb::handle v) {
        const Array keys("append", "k", k, k_), values("append", "v", v, v_);
        call("append", kvc_append, handle_, layer, keys.data(), keys.bytes(), values.data(), values.bytes());
    }

    void attend(Whole<"layer"> layer, nb::handle q, nb::handle out, nb::handle lse, nb::handle settings) {
        const Array queries("attend", "q", q, q_), results("attend", "out", out, out_, true);
        kvc_attend_options o;
        if (!settings.is_none())
            o = options<kvc_attend_options>("attend", kvc_attend_options_init, dict_of<kvc_attend_options>("attend", settings));
        const auto run = [&](float* sums, int64_t bytes) {
            call("attend", kvc_attend, handle_, layer, queries.data(), queries.bytes(), results.data(), results.bytes(), sums, bytes,
                 settings.is_none() ? nullptr : &o);
        };
        if (lse.is_none()) return run(nullptr, 0);
        const Array sums("attend", "lse", lse, lse_, true);
        run(sums.as<float>(), sums.bytes());
    }

    // On failure the step stays open.
    void commit(const Listed<"accepted">& accepted) {
        call("step_commit", kvc_step_commit, handle_, accepted.data(), accepted.size());
        is_open_ = false;
    }

    // May be called again, and after commit.
    void abort() {
        if (std::exchange(is_open_, false)) call("step_abort", kvc_step_abort, handle_);
    }

    bool is_open() const { return is_open_; }

private:
    static int32_t type_of(int32_t dtype) { return dtype == KVC_DTYPE_DEFAULT ? int32_t{KVC_F32} : dtype; }

    kvc_step* handle_ = nullptr;  // kept when the step has ended: the library knows that it is stale
    bool is_open_ = false;
    Wanted k_, v_, q_, out_, lse_;
};

}  // namespace

void define_step(nb::module_& m) {
    nb::class_<Step>(m, "Step", nb::is_weak_referenceable())
        .def(nb::init<uint64_t, const Listed<"sequences">&, const Listed<"counts">&, const Listed<"positions">&, nb::dict>(),
             nb::arg("cache"), nb::arg("sequences"), nb::arg("counts"), nb::arg("positions").none(), nb::arg("options"))
        .def("append", &Step::append, nb::arg("layer"), nb::arg("k").none(), nb::arg("v").none(),
             nb::sig("def append(self, layer: int, k: Array, v: Array) -> None"),
             "Stores keys [tokens, kv_heads, k_dim] and values [tokens, kv_heads, v_dim] of one layer; each layer once.")
        .def("attend_into", &Step::attend, nb::arg("layer"), nb::arg("q").none(), nb::arg("out").none(), nb::arg("lse") = nb::none(),
             nb::arg("options") = nb::none(),
             nb::sig("def attend_into(self, layer: int, q: Array, out: Array, lse: Array | None = None, "
                     "options: AttendOptions | None = None) -> None"),
             "attend without its conveniences: out is given, and the fields of kvc_attend_options come as a dict.")
        .def(
            "commit", &Step::commit, nb::arg("accepted") = nb::none(),
            nb::sig("def commit(self, accepted: collections.abc.Sequence[int] | None = None) -> None"),
            "Publishes all tokens, or the first accepted[i] of each sequence (needs partial_commit=1). On failure the step stays open.")
        .def("abort", &Step::abort, "Ends the step as if it had never begun. May be called again, and after commit.")
        .def_prop_ro("is_open", &Step::is_open, "Neither committed nor aborted.");
}

}  // namespace kvc_python
