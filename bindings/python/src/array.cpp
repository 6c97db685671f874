#include "array.h"

#include <cstring>

namespace kvc_python {
namespace {

std::string dtype_name(int32_t code) {
    static const char* const kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
    const int32_t kind = code / 256;
    return (kind < 7 ? kinds[kind] : "type " + std::to_string(kind) + " of ") + std::to_string(code % 256);
}

std::string device_name(int32_t device) {
    return device == KVC_CPU ? "the host" : device == KVC_CUDA ? "a CUDA device" : "device type " + std::to_string(device);
}

// The number of Python's struct format, as kvc_dtype counts; 0 if it is none in the machine's own order.
int32_t dtype_of_format(const char* format, int64_t itemsize) {
    if (!format) return dtype_u8;
    if (*format == '<' || *format == '=' || *format == '@') ++format;
    if (!*format || format[1]) return 0;
    const int32_t bits = int32_t(itemsize * 8);
    if (std::strchr("efd", *format)) return 0x200 + bits;
    if (std::strchr("bhilq", *format)) return bits;
    return std::strchr("BHILQ", *format) ? 0x100 + bits : 0;
}

// Pinned and managed memory can be used from either side.
int32_t side_of(int32_t device) {
    constexpr int32_t cuda_pinned = 3;
    return device == cuda_pinned ? int32_t{KVC_CPU} : device;
}

}  // namespace

void Array::refuse_it(const std::string& what) const { refuse(operation_, name_ + (": " + what)); }

Array::Array(const char* operation, const char* name, nb::handle from, const Wanted& wanted, bool written)
    : operation_(operation), name_(name) {
    if (!(wanted.device == KVC_CPU && take_buffer(from, wanted, written))) take_dlpack(from, wanted, written);
}

// False if this is no array of numbers by the buffer protocol: DLPack may know more about it.
bool Array::take_buffer(nb::handle from, const Wanted& wanted, bool written) {
    constexpr int max_ndim = 8;
    if (!PyObject_CheckBuffer(from.ptr())) return false;
    if (PyObject_GetBuffer(from.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0))) {
        PyErr_Clear();
        return false;
    }
    const int32_t dtype = view_.ndim > max_ndim ? 0 : dtype_of_format(view_.format, view_.itemsize);
    if (!dtype) return false;
    check_dtype(wanted, dtype);
    int64_t shape[max_ndim], strides[max_ndim];
    for (int i = 0; i < view_.ndim; ++i) {
        if (view_.shape[i] > 1 && view_.strides[i] % view_.itemsize) refuse_it("its strides are no multiples of its elements");
        shape[i] = view_.shape[i];
        strides[i] = view_.strides[i] / view_.itemsize;
    }
    data_ = view_.buf;
    measure(wanted, size_t(view_.ndim), shape, strides);
    return true;
}

void Array::take_dlpack(nb::handle from, const Wanted& wanted, bool written) {
    if (!(written ? nb::try_cast(from, written_, false) : nb::try_cast(from, read_, false))) {
        const std::string type = nb::type_name(from.type()).c_str();
        refuse_it(
            (written ? "expected an array (NumPy, DLPack) that can be written, got " : "expected an array (NumPy, DLPack), got ") +
            type);
    }
    const auto look = [&](const auto& array) {
        check_dtype(wanted, array.dtype().lanes == 1 ? int32_t(array.dtype().code) * 256 + array.dtype().bits : 0);
        if (side_of(array.device_type()) != wanted.device)
            refuse_it("expected an array on " + device_name(wanted.device) + ", got one on " + device_name(array.device_type()));
        data_ = const_cast<void*>(static_cast<const void*>(array.data()));
        measure(wanted, array.ndim(), array.shape_ptr(), array.stride_ptr());
    };
    written ? look(written_) : look(read_);
}

void Array::check_dtype(const Wanted& wanted, int32_t dtype) const {
    const bool as_bits = wanted.dtype == KVC_BF16 && dtype == dtype_u16;  // NumPy has no bf16
    if (dtype != wanted.dtype && !as_bits) refuse_it("expected an array of " + dtype_name(wanted.dtype) + ", got " + dtype_name(dtype));
}

// An array is dense, or [tokens][heads][dim] with whole rows and the strides that the step was told.
void Array::measure(const Wanted& wanted, size_t ndim, const int64_t* shape, const int64_t* strides) {
    const int64_t unit = wanted.dtype % 256 / 8;
    int64_t dense = 1;
    bool is_dense = true;
    for (size_t i = ndim; i-- > 0;) {
        is_dense = is_dense && (shape[i] <= 1 || strides[i] == dense);
        dense *= shape[i];
    }
    elements_ = dense;
    bytes_ = dense * unit;
    if (wanted.device == KVC_CPU && reinterpret_cast<uintptr_t>(data_) % uintptr_t(unit))
        refuse_it("its numbers are not aligned in memory");
    if (is_dense || dense == 0) return;
    if (ndim != 3 || (shape[2] > 1 && strides[2] != 1))
        refuse_it("the array is not C-contiguous, nor [tokens][heads][dim] with whole rows; pass a contiguous copy of it");
    const int64_t head_stride = wanted.head_stride ? wanted.head_stride : shape[2];
    const int64_t token_stride = wanted.token_stride ? wanted.token_stride : shape[1] * head_stride;
    if ((shape[1] > 1 && strides[1] != head_stride) || (shape[0] > 1 && strides[0] != token_stride))
        refuse_it("its tokens lie " + std::to_string(strides[0]) + " elements apart and its heads " + std::to_string(strides[1]) +
                  ", but the step was begun for " + std::to_string(token_stride) + " and " + std::to_string(head_stride) +
                  "; say them as " + name_ + "_token_stride and " + name_ + "_head_stride, or pass a contiguous copy");
    bytes_ = ((shape[0] - 1) * token_stride + (shape[1] - 1) * head_stride + shape[2]) * unit;
}

}  // namespace kvc_python
