// Records as snapshots hold them: canonical, whatever the byte order of the kernels that wrote them (docs/SNAPSHOT.md, section PAGE).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/backend/kernel_table.h"
#include "core/cache/config.h"
#include "core/cache/snapshot_bytes.h"

namespace kvc {

enum class RecordForm : uint8_t { sinks, window, codes, side };

// Of a lossless codec a page keeps its record when it leaves the window, and forks may know one record by both names.
inline RecordForm code_form(const LayerFormat& format) { return format.lossless ? RecordForm::window : RecordForm::codes; }

int64_t snapshot_record_bytes(const LayerFormat& format, RecordForm form);

// Turns the records of one layer after another; keeps its room between them.
class RecordCoder {
public:
    RecordCoder(const KernelTable& kernels, const std::vector<Layer>& layers);

    // Slots from `tokens` on belong to no token yet and are written as zeros.
    void write(const LayerFormat& format, RecordForm form, const std::byte* record, int64_t tokens, ByteWriter& out);
    // Whether the numbers are ones that a record may hold: finite, scales above zero. nullptr, or what is wrong.
    static const char* check(const LayerFormat& format, RecordForm form, std::span<const std::byte> bytes);
    // The record of bytes that were checked.
    void restore(const LayerFormat& format, RecordForm form, std::span<const std::byte> bytes, std::byte* record);

private:
    void restore_16_bit(const LayerFormat& format, bool sinks, ByteReader& in, std::byte* record);
    void restore_codes(const LayerFormat& format, ByteReader& in, std::byte* record);
    void store_rows(const LayerFormat& format, bool sinks, std::byte* record);

    const KernelTable& kernels_;
    std::vector<float> k_, v_;
    std::vector<uint16_t> k16_, v16_;
    std::unique_ptr<CanonicalPart> k_codes_, v_codes_;
    std::vector<std::byte> window_;
};

}  // namespace kvc
