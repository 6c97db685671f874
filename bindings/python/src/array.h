// An array of Python that kvc reads or writes where it lies, for the length of one call. Nothing is ever copied: what kvc cannot
// take as it is, is refused.
#pragma once

#include <nanobind/ndarray.h>
#include <optional>

#include "failure.h"

namespace kvc_python {

// Element types that kvc.h's buffers have besides kvc_dtype, in its way: DLPack's type code * 256 + bits.
constexpr int32_t dtype_i32 = 0x020, dtype_i64 = 0x040, dtype_u8 = 0x108, dtype_u16 = 0x110, dtype_f64 = 0x240;

// How the array has to be. Strides in elements, 0 = dense.
struct Wanted {
    int32_t dtype = KVC_F32;  // 0 = any numbers
    int64_t token_stride = 0, head_stride = 0;
    int32_t device = KVC_CPU;  // KVC_DEVICE_DEFAULT = any
    uint64_t cache = 0;        // whose buffers alone it may lie in, on a device; 0 = any
};

// The shape of an array with something for each token of a step: [tokens][heads][dim], the same as [tokens][heads * dim], or flat.
struct Rows {
    int64_t tokens, heads, dim;  // tokens -1: of a layer that is not there, which the library refuses
};

// Buffers that caches made, with the caches, by address: a buffer's end waits for the work of its own cache, and that of another one could
// still be under way. Pinned ones, which are the host's to other libraries, are the device's too.
void remember_buffer(uint64_t cache, uint64_t buffer, int64_t bytes, bool pinned);
void forget_buffer(uint64_t buffer);

class Array {
public:
    // A NumPy array, anything else with Python's buffer protocol, or any producer of DLPack. Dense NumPy arrays, which hot loops bring, are
    // looked into where they lie: each of the others' protocols runs through so much code that it costs as much as an append.
    Array(const char* operation, const char* name, nb::handle from, const Wanted& wanted, bool written = false)
        : Array(operation, name, from, wanted, nullptr, written) {}
    Array(const char* operation, const char* name, nb::handle from, const Wanted& wanted, const Rows& rows, bool written = false)
        : Array(operation, name, from, wanted, &rows, written) {}
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    void* data() const { return data_; }
    int64_t bytes() const { return bytes_; }
    int64_t elements() const { return elements_; }
    int32_t device() const { return device_; }  // KVC_CPU of what both sides can use
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

private:
    // What has to be given back.
    struct Foreign {
        ~Foreign() {
            if (view.obj) PyBuffer_Release(&view);
        }
        Py_buffer view{};
        nb::ndarray<nb::ro> read;
        nb::ndarray<> written;
    };

    Array(const char* operation, const char* name, nb::handle from, const Wanted& wanted, const Rows* rows, bool written)
        : operation_(operation), name_(name), rows_(rows) {
        if (!take_numpy(from, wanted, written)) take_foreign(from, wanted, written);
        if (!data_ && !elements_ && wanted.device == KVC_CPU) data_ = nothing;
    }

    bool take_numpy(nb::handle from, const Wanted& wanted, bool written);
    void take_foreign(nb::handle from, const Wanted& wanted, bool written);
    bool take_buffer(nb::handle from, const Wanted& wanted, bool written);
    void take_dlpack(nb::handle from, const Wanted& wanted, bool written);
    [[noreturn]] void refuse_elements(const Wanted& wanted) const;
    void check_dtype(const Wanted& wanted, int32_t dtype) const;
    void check_device(const Wanted& wanted, int32_t device);
    void measure(const Wanted& wanted, int64_t bits, size_t ndim, const int64_t* shape, const int64_t* strides);
    void measure_rows(const Wanted& wanted, size_t ndim, const int64_t* shape, const int64_t* strides);
    [[noreturn]] void refuse_shape(size_t ndim, const int64_t* shape) const;
    [[noreturn]] void refuse_strides(int64_t tokens, int64_t heads, const std::string& what) const;
    [[noreturn]] void refuse_it(const std::string& what) const;

    // Where an array lies that has no numbers and says NULL, as PyTorch's do: to the library that is one that was not given.
    alignas(16) static inline char nothing[16];

    const char* operation_;
    const char* name_;
    const Rows* rows_;  // null: any shape, but dense
    std::optional<Foreign> foreign_;
    void* data_ = nullptr;
    int64_t bytes_ = 0, elements_ = 1;
    int32_t device_ = KVC_CPU;
};

// Finds out whether this NumPy's arrays can be looked into; before that, and if they cannot, they are taken by the buffer protocol.
void learn_numpy();

// [tokens] or [rows][dim] that kvc fills in.
struct Written : Array {
    Written(const char* operation, nb::handle to, int32_t dtype) : Array(operation, "out", to, {dtype}, true) {}
};

}  // namespace kvc_python
