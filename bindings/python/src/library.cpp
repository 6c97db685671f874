// Version, discovery, planning: what needs no cache. And the module itself.
#include <dlfcn.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "../../abi_check.h"
#include "arguments.h"
#include "array.h"
#include "shape.h"
#include "structs.h"

namespace kvc_python {
namespace {

// Texts that are asked for with (NULL, 0) first.
template <class Function, class... Arguments>
std::string text(const char* operation, Function function, Arguments... arguments) {
    std::string out(size_t(make(operation, function, arguments..., nullptr, int64_t{0})), '\0');
    make(operation, function, arguments..., out.data(), int64_t(out.size()));
    out.pop_back();  // the final NUL
    return out;
}

std::string abi_describe() {
    std::string out(size_t(kvc_abi_describe(nullptr, 0)), '\0');
    kvc_abi_describe(out.data(), int64_t(out.size()));
    out.pop_back();
    return out;
}

// The file that the library was loaded from.
std::string path() {
    Dl_info info{};
    return dladdr(reinterpret_cast<void*>(&kvc_version), &info) && info.dli_fname ? info.dli_fname : "";
}

// What is wrong with the loaded library, or nothing.
std::string abi_mismatch() {
    char* const sentence = kvc_abi_mismatch();
    const std::string out = sentence ? sentence : "";
    free(sentence);
    return out;
}

std::vector<kvc_layer> layers_of(const char* operation, nb::list given) {
    std::vector<kvc_layer> out;
    for (nb::handle values : given) {
        const std::string name = "layers_differ[" + std::to_string(out.size()) + "]";
        out.push_back(options<kvc_layer>(operation, kvc_layer_init, dict_of(name, values)));
    }
    return out;
}

void supports(nb::dict values, nb::list layers) {
    const auto o = options<kvc_options>("supports", kvc_options_init, values);
    const auto differ = layers_of("supports", layers);
    call("supports", kvc_supports, &o, differ.empty() ? nullptr : differ.data(), int64_t(differ.size()));
}

nb::dict plan_compute(nb::dict values, nb::list layers, nb::handle request) {
    const auto o = options<kvc_options>("plan_compute", kvc_options_init, values);
    const auto differ = layers_of("plan_compute", layers);
    const auto asked = options<kvc_plan_request>("plan_compute", kvc_plan_request_init, dict_of("request", request));
    auto out = blank<kvc_plan>();
    call("plan_compute", kvc_plan_compute, &o, differ.empty() ? nullptr : differ.data(), int64_t(differ.size()), &asked, &out);
    return as_dict(out);
}

uint64_t create(nb::dict values, nb::list layers) {
    const auto o = options<kvc_options>("create", kvc_options_init, values);
    const auto differ = layers_of("create", layers);
    const auto made =
        reinterpret_cast<uint64_t>(make("create", kvc_create, &o, differ.empty() ? nullptr : differ.data(), int64_t(differ.size())));
    remember_shapes(made, shapes_of(o, differ));
    return made;
}

// Head dims (k, v) of each layer.
std::vector<std::pair<int64_t, int64_t>> dims_of(uint64_t cache) {
    std::vector<std::pair<int64_t, int64_t>> dims;
    for (const Shape& shape : *shapes_of_cache(cache))
        dims.emplace_back(shape.k_dim, shape.v_dim);
    return dims;
}

// Python's exception for a failure is made by kvc.errors, which holds one class a status.
void raise(const Failure& failure) {
    try {
        const nb::object exception =
            nb::module_::import_("kvc.errors").attr("of_status")(failure.status, failure.operation, failure.message);
        PyErr_SetObject(exception.type().ptr(), exception.ptr());
    } catch (nb::python_error& other) {
        other.restore();
    }
}

}  // namespace

void define_library(nb::module_& m) {
    nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
        try {
            std::rethrow_exception(thrown);
        } catch (const Failure& failure) {
            raise(failure);
        }
    });
    m.def("version", &kvc_version);
    m.def("abi_version", &kvc_abi_version);
    m.def("build_info", &kvc_build_info);
    m.def("abi_describe", &abi_describe);
    m.def("abi_mismatch", &abi_mismatch, "A sentence that names what differs from the kvc.h of this binding; empty if nothing does.");
    m.def("path", &path, "The file that libkvc was loaded from.");
    m.def("structs", &all_structs, "{struct: {field: kind}} of kvc.h.");
    m.def("enums", &all_enums, "{enum: {name: value}} of kvc.h.");
    m.def("status_name", [](Whole<"status_name", "status", int32_t> status) { return kvc_status_name(status); }, any("status"));
    m.def("preset_count", &kvc_preset_count);
    m.def("preset_name", &kvc_preset_name, nb::arg("index"));
    m.def("policy_count", &kvc_policy_count);
    m.def("policy_name", &kvc_policy_name, nb::arg("index"));
    m.def("target_count", &kvc_target_count);
    m.def("target_name", &kvc_target_name, nb::arg("index"));
    m.def(
        "codec_format", [](Word<"codec_format", "codec"> codec) { return text("codec_format", kvc_codec_format, codec.text); },
        any("codec"));
    m.def(
        "policy_format", [](Word<"policy_format", "policy"> policy) { return text("policy_format", kvc_policy_format, policy.text); },
        any("policy"));
    m.def(
        "device_count", [](Whole<"device_count", "device", int32_t> device) { return make("device_count", kvc_device_count, device); },
        any("device"));
    m.def(
        "device_describe",
        [](Whole<"device_describe", "device", int32_t> device, Whole<"device_describe", "ordinal"> ordinal) {
            return text("device_describe", kvc_device_describe, device, ordinal);
        },
        any("device"), any("ordinal"));
    m.def("supports", &supports, nb::arg("options"), nb::arg("layers"));
    m.def("plan_compute", &plan_compute, nb::arg("options"), nb::arg("layers"), any("request"));
    m.def("create", &create, nb::arg("options"), nb::arg("layers"));
    m.def("dims_of", &dims_of, nb::arg("cache"), "The head dims (k, v) of each layer, with all defaults in place.");
}

}  // namespace kvc_python

NB_MODULE(_kvc, m) {
    m.doc() = "kvc.h, function by function. Use the package kvc, which is built on this.";
    kvc_python::learn_numpy();
    kvc_python::define_library(m);
    kvc_python::define_cache(m);
    kvc_python::define_sequences(m);
    kvc_python::define_step(m);
}
