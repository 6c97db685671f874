#include "core/cache/snapshot_records.h"

#include <algorithm>
#include <cstring>

#include "core/base/half.h"

namespace kvc {
namespace {

constexpr uint16_t f16_largest = 0x7bff;

int64_t part_bytes(const PartLayout& part) { return part.codes_bytes + part.meta_bytes + part.super_bytes; }

// Rows of `tokens` tokens, and zeros up to `capacity`; rounded is room for them.
void write_rows(const std::vector<float>& x, bool bf16, int64_t capacity, int64_t tokens, int64_t dim, std::vector<uint16_t>* rounded,
                ByteWriter& out) {
    uint16_t* const to = rounded->data();
    const int64_t n = tokens * dim;
    for (int64_t i = 0; i < n && bf16; i++)
        to[i] = bf16_from_f32(x[size_t(i)]);
    for (int64_t i = 0; i < n && !bf16; i++)
        to[i] = f16_from_f32(x[size_t(i)]);
    std::fill(to + n, to + capacity * dim, uint16_t{0});
    out.put_all(std::span<const uint16_t>(to, size_t(capacity * dim)));
}

void read_rows(ByteReader& in, int64_t n, std::vector<uint16_t>* rows) { in.get_all(std::span(*rows).first(size_t(n))); }

bool finite_rows(ByteReader& in, int64_t n, bool bf16) {
    const uint16_t exponent = bf16 ? 0x7f80 : 0x7c00;
    const std::span<const std::byte> row = in.take(n * int64_t(sizeof(uint16_t)));
    int infinite = 0;
    for (size_t i = 0; i + 1 < row.size(); i += 2) {
        const int number = int(row[i]) | int(row[i + 1]) << 8;
        infinite += (number & exponent) == exponent ? 1 : 0;
    }
    return infinite == 0;
}

// Eight codes of b bits fill b bytes, the first code in the lowest bits.
void write_codes(const Codec& codec, int64_t n, const uint8_t* codes, ByteWriter& out) {
    const int bits = bits_of(codec.type);
    uint8_t packed[page_tokens * dim_limit];
    uint8_t* to = packed;
    for (int64_t first = 0; first < n; first += 8) {
        uint64_t word = 0;
        for (int i = 0; i < 8; i++)
            word |= uint64_t{codes[first + i]} << (i * bits);
        for (int i = 0; i < bits; i++)
            *to++ = uint8_t(word >> (8 * i));
    }
    out.put_bytes(std::as_bytes(std::span(packed, to)));
}

void read_codes(const Codec& codec, int64_t n, ByteReader& in, uint8_t* codes) {
    const int bits = bits_of(codec.type);
    const std::byte* from = in.take(n * bits / 8).data();
    for (int64_t first = 0; first < n; first += 8) {
        uint64_t word = 0;
        for (int i = 0; i < bits; i++)
            word |= uint64_t(*from++) << (8 * i);
        for (int i = 0; i < 8; i++)
            codes[first + i] = uint8_t(word >> (i * bits) & ((1u << bits) - 1));
    }
}

// Scales, then zero points, then super pairs; visit(number, bytes) writes or reads one of them.
template <class Part, class Visit>
void for_each_number(const Codec& codec, int64_t dim, Part& part, const Visit& visit) {
    const int64_t groups = group_count(codec, dim);
    const int bytes = codec.m8 ? 1 : 2;
    for (int64_t i = 0; i < groups; i++)
        visit(part.scales[i], bytes);
    for (int64_t i = 0; i < groups && !codec.symmetric; i++)
        visit(part.zeros[i], bytes);
    for (int tile = 0; codec.m8 && tile < page_tokens / codec.group; tile++) {
        visit(part.super_scale[tile], 2);
        visit(part.super_zero[tile], 2);
    }
}

void write_part(const Codec& codec, int64_t dim, const CanonicalPart& part, ByteWriter& out) {
    write_codes(codec, page_tokens * dim, part.codes, out);
    for_each_number(codec, dim, part, [&](uint16_t number, int bytes) {
        if (bytes == 1) {
            out.put(uint8_t(number));
        } else {
            out.put(number);
        }
    });
}

void read_part(const Codec& codec, int64_t dim, ByteReader& in, CanonicalPart* part) {
    read_codes(codec, page_tokens * dim, in, part->codes);
    for_each_number(codec, dim, *part,
                    [&](uint16_t& number, int bytes) { number = bytes == 1 ? uint16_t{in.get<uint8_t>()} : in.get<uint16_t>(); });
}

// Every pattern of codes is one; the numbers that multiply them are looked at.
const char* check_part(const Codec& codec, const PartLayout& layout, int64_t dim, ByteReader& in) {
    if (is_16_bit(codec.type)) {
        return finite_rows(in, page_tokens * dim, codec.type == CodeType::bf16) ? nullptr : "a number that is not finite";
    }
    in.take(layout.codes_bytes);
    const auto number = [&] { return codec.m8 ? uint16_t{in.get<uint8_t>()} : in.get<uint16_t>(); };
    const int64_t groups = group_count(codec, dim);
    const int least = codec.fit == Fit::least_squares ? 0 : 1;  // a group of zeros has the scale 0 under least squares alone
    bool good = true;
    for (int64_t i = 0; i < groups; i++) {
        const uint16_t scale = number();
        good &= scale >= least && scale <= f16_largest;
    }
    for (int64_t i = 0; i < groups && !codec.symmetric; i++) {
        const uint16_t zero = number();
        good &= codec.m8 ? zero != 0x80 : (zero & 0x7c00) != 0x7c00;
    }
    for (int64_t i = 0; i < layout.super_bytes / 2; i++) {
        const uint16_t unit = in.get<uint16_t>();
        good &= unit >= 1 && unit <= f16_largest;
    }
    return good ? nullptr : "a scale or a zero point out of range";
}

}  // namespace

int64_t snapshot_record_bytes(const LayerFormat& format, RecordForm form) {
    if (form == RecordForm::side) return side_bytes;
    if (form == RecordForm::codes) return part_bytes(format.k) + part_bytes(format.v);
    const int64_t tokens = form == RecordForm::sinks ? format.codec.sinks : page_tokens;
    return (Size(tokens) * Size(format.k_dim + format.v_dim) * Size(2)).value();
}

RecordCoder::RecordCoder(const KernelTable& kernels, const std::vector<Layer>& layers) : kernels_(kernels) {
    int64_t k_dim = 0, v_dim = 0, window_bytes = 0;
    for (const Layer& layer : layers) {
        k_dim = std::max<int64_t>(k_dim, layer.format.k_dim);
        v_dim = std::max<int64_t>(v_dim, layer.format.v_dim);
        window_bytes = std::max(window_bytes, layer.format.window_bytes);
    }
    k_.resize(size_t(page_tokens * k_dim)), v_.resize(size_t(page_tokens * v_dim));
    k16_.resize(k_.size()), v16_.resize(v_.size());
    window_.resize(size_t(window_bytes));
    k_codes_ = std::make_unique<CanonicalPart>(), v_codes_ = std::make_unique<CanonicalPart>();
}

void RecordCoder::write(const LayerFormat& format, RecordForm form, const std::byte* record, int64_t tokens, ByteWriter& out) {
    if (form == RecordForm::side) {
        for (const int64_t position : reinterpret_cast<const PageSide*>(record)->positions)
            out.put(uint64_t(position));
        return;
    }
    const bool sinks = form == RecordForm::sinks, coded = form == RecordForm::codes;
    const auto read_as = sinks ? KernelTable::Form::sinks : coded ? KernelTable::Form::codes : KernelTable::Form::window;
    const bool k_16 = !coded || is_16_bit(format.codec.k.type), v_16 = !coded || is_16_bit(format.codec.v.type);
    if (coded) kernels_.unpack(format, record, k_codes_.get(), v_codes_.get());
    kernels_.read(format, read_as, record, k_16 ? k_.data() : nullptr, v_16 ? v_.data() : nullptr);
    const int64_t capacity = sinks ? format.codec.sinks : page_tokens;
    if (k_16) {
        write_rows(k_, format.bf16_window, capacity, tokens, format.k_dim, &k16_, out);
    } else {
        write_part(format.codec.k, format.k_dim, *k_codes_, out);
    }
    if (v_16) {
        write_rows(v_, format.bf16_window, capacity, tokens, format.v_dim, &v16_, out);
    } else {
        write_part(format.codec.v, format.v_dim, *v_codes_, out);
    }
}

const char* RecordCoder::check(const LayerFormat& format, RecordForm form, std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    if (form == RecordForm::side) return nullptr;  // what positions may be depends on who refers to them
    if (form != RecordForm::codes) {
        const bool finite = finite_rows(in, int64_t(bytes.size()) / 2, format.bf16_window);
        return finite ? nullptr : "a number that is not finite";
    }
    if (const char* wrong = check_part(format.codec.k, format.k, format.k_dim, in)) return wrong;
    return check_part(format.codec.v, format.v, format.v_dim, in);
}

// Rows k16_ and v16_ into a 16-bit record. They are in the stored basis already, so nothing is rotated.
void RecordCoder::store_rows(const LayerFormat& format, bool sinks, std::byte* record) {
    LayerFormat as_stored = format;
    as_stored.codec.k.rotate = as_stored.codec.v.rotate = false;
    StoreParams store = {};
    store.format = &as_stored;
    store.k = k16_.data(), store.v = v16_.data();
    store.dtype = format.bf16_window ? Dtype::bf16 : Dtype::f16;
    store.k_stride = format.k_dim, store.v_stride = format.v_dim;
    store.tokens = sinks ? format.codec.sinks : page_tokens;
    store.record = record;
    store.sinks = sinks;
    (void)kernels_.store(store);
}

void RecordCoder::restore_16_bit(const LayerFormat& format, bool sinks, ByteReader& in, std::byte* record) {
    const int64_t tokens = sinks ? format.codec.sinks : page_tokens;
    read_rows(in, tokens * format.k_dim, &k16_);
    read_rows(in, tokens * format.v_dim, &v16_);
    if (sinks) std::memset(record, 0, size_t(format.sink_bytes));
    store_rows(format, sinks, record);
}

// A 16-bit part of a code record has the order of the kernels' window records: it goes through one.
void RecordCoder::restore_codes(const LayerFormat& format, ByteReader& in, std::byte* record) {
    const bool k_16 = is_16_bit(format.codec.k.type), v_16 = is_16_bit(format.codec.v.type);
    std::fill(k16_.begin(), k16_.end(), uint16_t{0});
    std::fill(v16_.begin(), v16_.end(), uint16_t{0});
    if (k_16) {
        read_rows(in, page_tokens * format.k_dim, &k16_);
    } else {
        read_part(format.codec.k, format.k_dim, in, k_codes_.get());
    }
    if (v_16) {
        read_rows(in, page_tokens * format.v_dim, &v16_);
    } else {
        read_part(format.codec.v, format.v_dim, in, v_codes_.get());
    }
    if (k_16 || v_16) {
        store_rows(format, false, window_.data());
        kernels_.quantize({&format, window_.data(), record});
    }
    kernels_.pack(format, *k_codes_, *v_codes_, record);
}

void RecordCoder::restore(const LayerFormat& format, RecordForm form, std::span<const std::byte> bytes, std::byte* record) {
    ByteReader in(bytes);
    if (form == RecordForm::side) {
        for (int64_t& position : reinterpret_cast<PageSide*>(record)->positions)
            position = int64_t(in.get<uint64_t>());
    } else if (form == RecordForm::codes) {
        restore_codes(format, in, record);
    } else {
        restore_16_bit(format, form == RecordForm::sinks, in, record);
    }
}

}  // namespace kvc
