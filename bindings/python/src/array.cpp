#include "array.h"

#include <cstring>
#include <map>

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

// What NumPy's arrays and their element types begin with: PyArrayObject_fields and PyArray_Descr of its C API, which are the same in all
// versions. Only the fields that are read here.
struct NumpyType {
    PyObject_HEAD PyTypeObject* scalar;
    char kind, letter, byte_order, flags;
    int number;
};
struct NumpyArray {
    PyObject_HEAD char* data;
    int ndim;
    const Py_ssize_t *shape, *strides;
    PyObject* base;
    const NumpyType* descr;
    int flags;
};
constexpr int numpy_writeable = 0x400;

struct Owned {
    uint64_t end, cache;
    bool pinned;
};
std::map<uint64_t, Owned> buffers;  // by where they begin; as all of Python's, under the GIL

// The buffer in which an address lies; null: none does.
const Owned* buffer_of(const void* data) {
    const auto address = reinterpret_cast<uint64_t>(data);
    const auto behind = buffers.upper_bound(address);
    if (behind == buffers.begin()) return nullptr;
    const Owned& found = std::prev(behind)->second;
    return address < found.end ? &found : nullptr;
}

PyTypeObject* numpy_array = nullptr;  // of the arrays that can be looked into

// 0 if it is none of kvc's, or not in the machine's own order.
int32_t dtype_of_numpy(const NumpyType& type) {
    if (type.byte_order != '=' && type.byte_order != '|') return 0;
    switch (type.number) {  // NPY_TYPES
    case 2:
        return dtype_u8;
    case 4:
        return dtype_u16;
    case 5:
        return dtype_i32;
    case 7:
        return sizeof(long) == 8 ? dtype_i64 : dtype_i32;
    case 9:
        return dtype_i64;
    case 11:
        return KVC_F32;
    case 12:
        return dtype_f64;
    case 23:
        return KVC_F16;
    default:
        return 0;
    }
}

// Pinned and managed memory, DLPack's kDLCUDAHost and kDLCUDAManaged, can be used from either side.
bool is_of_both(int32_t device) {
    constexpr int32_t cuda_host = 3, cuda_managed = 13;
    return device == cuda_host || device == cuda_managed;
}

std::string in_brackets(const int64_t* numbers, size_t n) {
    std::string text;
    for (size_t i = 0; i < n; ++i)
        text.append("[").append(std::to_string(numbers[i])).append("]");
    return text;
}
std::string in_brackets(std::initializer_list<int64_t> numbers) { return in_brackets(numbers.begin(), numbers.size()); }

template <class Int>
bool fit(const Rows& rows, size_t ndim, const Int* shape) {
    const int64_t row = rows.heads * rows.dim;
    switch (ndim) {
    case 1:
        return shape[0] == rows.tokens * row;
    case 2:
        return shape[0] == rows.tokens && shape[1] == row;
    case 3:
        return shape[0] == rows.tokens && shape[1] == rows.heads && shape[2] == rows.dim;
    default:
        return false;
    }
}

struct Strides {
    int64_t token, head;
};

// What the step was begun with; the product is compared alone, and wraps where a stride is no memory's.
Strides strides_of(const Wanted& wanted, const Rows& rows) {
    const int64_t head = wanted.head_stride ? wanted.head_stride : rows.dim;
    return {wanted.token_stride ? wanted.token_stride : int64_t(uint64_t(rows.heads) * uint64_t(head)), head};
}

// Whether a dense array is what a step with these strides reads.
bool are_dense(const Wanted& wanted, const Rows& rows) {
    const auto [token, head] = strides_of(wanted, rows);
    return (rows.heads <= 1 || head == rows.dim) && (rows.tokens <= 1 || token == rows.heads * rows.dim);
}

// Whether the fields of an array are where they are looked for.
bool can_look_into(nb::handle array, int32_t dtype, int64_t rows, int64_t columns) {
    const auto* seen = reinterpret_cast<const NumpyArray*>(array.ptr());
    const int64_t unit = dtype % 256 / 8;
    const auto data = nb::cast<uintptr_t>(array.attr("__array_interface__")["data"][nb::int_(0)]);
    return reinterpret_cast<uintptr_t>(seen->data) == data && seen->ndim == 2 && seen->shape[0] == rows && seen->shape[1] == columns &&
           seen->strides[0] == columns * unit && seen->strides[1] == unit && (const void*)seen->descr == array.attr("dtype").ptr() &&
           dtype_of_numpy(*seen->descr) == dtype && (seen->flags & numpy_writeable);
}

}  // namespace

void learn_numpy() {
    const nb::module_ numpy = nb::module_::import_("numpy");
    bool good = true;
    for (const auto& [name, dtype] : {std::pair{"float32", int32_t{KVC_F32}},
                                      {"float16", int32_t{KVC_F16}},
                                      {"uint16", dtype_u16},
                                      {"int64", dtype_i64},
                                      {"int32", dtype_i32},
                                      {"uint8", dtype_u8},
                                      {"float64", dtype_f64}}) {
        nb::object array = numpy.attr("empty")(nb::make_tuple(3, 5), name);
        good = good && can_look_into(array, dtype, 3, 5);
        array.attr("setflags")(nb::arg("write") = false);
        good = good && !(reinterpret_cast<const NumpyArray*>(array.ptr())->flags & numpy_writeable);
    }
    if (good) numpy_array = reinterpret_cast<PyTypeObject*>(nb::object(numpy.attr("ndarray")).release().ptr());
}

void remember_buffer(uint64_t cache, uint64_t buffer, int64_t bytes, bool pinned) {
    buffers[buffer] = {buffer + uint64_t(bytes), cache, pinned};
}
void forget_buffer(uint64_t buffer) { buffers.erase(buffer); }

void Array::refuse_it(const std::string& what) const { refuse(operation_, name_ + (": " + what)); }

// False if this is no dense, aligned NumPy array of that type: the others' ways take what is not dense, and say what is wrong.
bool Array::take_numpy(nb::handle from, const Wanted& wanted, bool written) {
    if (Py_TYPE(from.ptr()) != numpy_array || wanted.device != KVC_CPU) return false;
    const auto* array = reinterpret_cast<const NumpyArray*>(from.ptr());
    const int32_t dtype = dtype_of_numpy(*array->descr);
    if (dtype != wanted.dtype && !(wanted.dtype == KVC_BF16 && dtype == dtype_u16)) return false;
    if (written && !(array->flags & numpy_writeable)) return false;
    const int64_t unit = wanted.dtype % 256 / 8;
    int64_t elements = 1;
    for (int i = array->ndim; i-- > 0;) {
        if (array->shape[i] > 1 && array->strides[i] != elements * unit) return false;
        elements *= array->shape[i];
    }
    if (reinterpret_cast<uintptr_t>(array->data) % uintptr_t(unit)) return false;
    if (rows_ && rows_->tokens >= 0 && !(fit(*rows_, size_t(array->ndim), array->shape) && are_dense(wanted, *rows_))) return false;
    data_ = array->data;
    elements_ = elements;
    bytes_ = elements * unit;
    return true;
}

void Array::take_foreign(nb::handle from, const Wanted& wanted, bool written) {
    foreign_.emplace();
    const bool may_be_host = wanted.device == KVC_CPU || wanted.device == KVC_DEVICE_DEFAULT;
    if (!(may_be_host && take_buffer(from, wanted, written))) take_dlpack(from, wanted, written);
}

// False if this is no array of numbers by the buffer protocol: DLPack may know more about it.
bool Array::take_buffer(nb::handle from, const Wanted& wanted, bool written) {
    constexpr int max_ndim = 8;
    if (!PyObject_CheckBuffer(from.ptr())) return false;
    Py_buffer& view = foreign_->view;
    if (PyObject_GetBuffer(from.ptr(), &view, PyBUF_STRIDES | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0))) {
        PyErr_Clear();
        return false;
    }
    const int32_t dtype = view.ndim > max_ndim ? 0 : dtype_of_format(view.format, view.itemsize);
    if (!dtype) return false;
    check_dtype(wanted, dtype);
    int64_t shape[max_ndim], strides[max_ndim];
    for (int i = 0; i < view.ndim; ++i) {
        if (view.shape[i] > 1 && view.strides[i] % view.itemsize) refuse_it("its strides are no multiples of its elements");
        shape[i] = view.shape[i];
        strides[i] = view.strides[i] / view.itemsize;
    }
    data_ = view.buf;
    measure(wanted, dtype % 256, size_t(view.ndim), shape, strides);
    return true;
}

void Array::take_dlpack(nb::handle from, const Wanted& wanted, bool written) {
    if (!(written ? nb::try_cast(from, foreign_->written, false) : nb::try_cast(from, foreign_->read, false))) {
        if (foreign_->view.obj) refuse_elements(wanted);
        const std::string type = nb::type_name(from.type()).c_str();
        refuse_it(
            (written ? "expected an array (NumPy, DLPack) that can be written, got " : "expected an array (NumPy, DLPack), got ") +
            type);
    }
    const auto look = [&](const auto& array) {
        check_dtype(wanted, array.dtype().lanes == 1 ? int32_t(array.dtype().code) * 256 + array.dtype().bits : 0);
        data_ = const_cast<void*>(static_cast<const void*>(array.data()));
        check_device(wanted, array.device_type());
        measure(wanted, int64_t(array.dtype().bits) * array.dtype().lanes, array.ndim(), array.shape_ptr(), array.stride_ptr());
    };
    written ? look(foreign_->written) : look(foreign_->read);
}

// What the step was told, or what is as good. A pinned buffer says that it is the host's, so that other libraries take it.
void Array::check_device(const Wanted& wanted, int32_t device) {
    device_ = is_of_both(device) ? int32_t{KVC_CPU} : device;
    if (wanted.device == KVC_DEVICE_DEFAULT) return;
    const Owned* buffer = wanted.device == KVC_CPU ? nullptr : buffer_of(data_);
    if (device != wanted.device && !is_of_both(device) && !(buffer && buffer->pinned))
        refuse_it("expected an array on " + device_name(wanted.device) + ", got one on " + device_name(device));
    if (wanted.cache && buffer && buffer->cache != wanted.cache)
        throw Failure{KVC_E_HANDLE, operation_, std::string(operation_) + ": " + name_ + ": the buffer belongs to another cache"};
}

// Of an array that the buffer protocol gave, whose elements neither it nor DLPack knows as numbers.
void Array::refuse_elements(const Wanted& wanted) const {
    const char* format = foreign_->view.format ? foreign_->view.format : "B";
    if (*format == '>' || *format == '!')
        refuse_it("its numbers are not in this machine's byte order; pass array.astype(array.dtype.newbyteorder('='))");
    refuse_it("expected an array of " + (wanted.dtype ? dtype_name(wanted.dtype) : "numbers") + ", got elements of the format '" +
              format + "'");
}

void Array::check_dtype(const Wanted& wanted, int32_t dtype) const {
    const bool as_bits = wanted.dtype == KVC_BF16 && dtype == dtype_u16;  // NumPy has no bf16
    if (wanted.dtype && dtype != wanted.dtype && !as_bits)
        refuse_it("expected an array of " + dtype_name(wanted.dtype) + ", got " + dtype_name(dtype));
}

void Array::measure(const Wanted& wanted, int64_t bits, size_t ndim, const int64_t* shape, const int64_t* strides) {
    const int64_t unit = wanted.dtype % 256 / 8;
    int64_t dense = 1;
    bool is_dense = true;
    for (size_t i = ndim; i-- > 0;) {
        is_dense = is_dense && (shape[i] <= 1 || strides[i] == dense);
        dense *= shape[i];
    }
    elements_ = dense;
    bytes_ = (dense * bits + 7) / 8;
    if (wanted.device == KVC_CPU && reinterpret_cast<uintptr_t>(data_) % uintptr_t(unit))
        refuse_it("its numbers are not aligned in memory");
    if (rows_) return measure_rows(wanted, ndim, shape, strides);
    if (!is_dense && dense) refuse_it("the array is not C-contiguous; pass a contiguous copy of it");
}

// The shape of the step, whole rows, and the strides that the step was told.
void Array::measure_rows(const Wanted& wanted, size_t ndim, const int64_t* shape, const int64_t* strides) {
    if (rows_->tokens < 0) return;
    if (!fit(*rows_, ndim, shape)) refuse_shape(ndim, shape);
    if (elements_ == 0) return;
    const auto [tokens, heads, dim] = *rows_;
    const int64_t inner = strides[ndim - 1];
    const int64_t head = ndim == 3 ? strides[1] : dim * inner, token = ndim == 1 ? heads * dim * inner : strides[0];
    if ((ndim == 3 ? dim : elements_ / (ndim == 1 ? 1 : tokens)) > 1 && inner != 1)
        refuse_it("the array is not C-contiguous, nor [tokens][heads][dim] with whole rows; pass a contiguous copy of it");
    if ((tokens > 1 && token <= 0) || (heads > 1 && head <= 0))
        refuse_strides(token, head, ", backwards or all in one place; pass a contiguous copy");
    const auto [token_stride, head_stride] = strides_of(wanted, *rows_);
    if ((heads > 1 && head != head_stride) || (tokens > 1 && token != token_stride))
        refuse_strides(token, head,
                       ", but the step was begun for " + std::to_string(token_stride) + " and " + std::to_string(head_stride) +
                           "; say them as " + name_ + "_token_stride and " + name_ + "_head_stride, or pass a contiguous copy");
    bytes_ = ((tokens - 1) * token_stride + (heads - 1) * head_stride + dim) * (wanted.dtype % 256 / 8);
}

void Array::refuse_shape(size_t ndim, const int64_t* shape) const {
    const auto [tokens, heads, dim] = *rows_;
    const std::string has = ndim ? in_brackets(shape, ndim) : "that of a single number";
    refuse_it("its shape is " + has + ", but the step's is " + in_brackets({tokens, heads, dim}) + ", [tokens][heads][dim], which " +
              in_brackets({tokens, heads * dim}) + " and " + in_brackets({tokens * heads * dim}) + " may stand for");
}

void Array::refuse_strides(int64_t tokens, int64_t heads, const std::string& what) const {
    refuse_it("its tokens lie " + std::to_string(tokens) + " elements apart and its heads " + std::to_string(heads) + what);
}

}  // namespace kvc_python
