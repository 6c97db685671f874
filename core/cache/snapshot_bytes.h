// Little-endian numbers in memory, one by one: what a snapshot is made of, on any machine.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace kvc {

// Writes behind each other; without memory it only counts.
class ByteWriter {
public:
    explicit ByteWriter(std::byte* out) : out_(out) {}

    template <class T>
    void put(T value) {
        if (out_) {
            for (size_t i = 0; i < sizeof(T); i++)
                out_[at_ + int64_t(i)] = std::byte(uint64_t(value) >> (8 * i));
        }
        at_ += int64_t(sizeof(T));
    }
    // Many at once: where memory is little-endian as well, as they lie there.
    template <class T>
    void put_all(std::span<const T> values) {
        if (std::endian::native == std::endian::little) {
            put_bytes(std::as_bytes(values));
        } else {
            for (const T value : values)
                put(value);
        }
    }
    void put_bytes(std::span<const std::byte> bytes) {
        if (out_ && !bytes.empty()) std::memcpy(out_ + at_, bytes.data(), bytes.size());
        at_ += int64_t(bytes.size());
    }
    // Leaves room; whoever counts alone knows how much a record takes.
    void skip(int64_t bytes) { at_ += bytes; }

    bool counts_only() const { return !out_; }
    int64_t written() const { return at_; }
    // What was written from `from` on.
    std::span<const std::byte> since(int64_t from) const { return {out_ + from, size_t(at_ - from)}; }

private:
    std::byte* out_;
    int64_t at_ = 0;
};

// Reads behind each other. What lies beyond the end reads as 0 and is remembered: a count must be held against left() before
// anything is sized by it.
class ByteReader {
public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <class T>
    T get() {
        if (left() < int64_t(sizeof(T))) {
            short_ = true;
            at_ = bytes_.size();
            return 0;
        }
        uint64_t value = 0;
        for (size_t i = 0; i < sizeof(T); i++)
            value |= uint64_t(bytes_[at_ + i]) << (8 * i);
        at_ += sizeof(T);
        return T(value);
    }
    template <class T>
    void get_all(std::span<T> out) {
        if (std::endian::native == std::endian::little && left() >= int64_t(out.size_bytes())) {
            if (!out.empty()) std::memcpy(out.data(), bytes_.data() + at_, out.size_bytes());
            at_ += out.size_bytes();
        } else {
            for (T& value : out)
                value = get<T>();
        }
    }
    // The next bytes; none if there are fewer.
    std::span<const std::byte> take(int64_t bytes) {
        if (bytes < 0 || bytes > left()) {
            short_ = true;
            return {};
        }
        at_ += size_t(bytes);
        return bytes_.subspan(at_ - size_t(bytes), size_t(bytes));
    }

    int64_t left() const { return int64_t(bytes_.size() - at_); }
    int64_t at() const { return int64_t(at_); }
    bool ran_short() const { return short_; }

private:
    std::span<const std::byte> bytes_;
    size_t at_ = 0;
    bool short_ = false;
};

}  // namespace kvc
