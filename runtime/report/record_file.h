#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace zerostep {

// Files of records as TensorFlow writes them (TFRecord): the length in 8 bytes, the masked CRC-32C of these, the record, its masked
// CRC-32C.

// A record with its frame behind what `out` holds.
void append_record(std::string& out, std::string_view record);

// Takes the record that `bytes` begins with off them. False where it is cut short or damaged, and at the end: `bytes` stays as it is.
bool take_record(std::string_view& bytes, std::string_view& record);

// Cuts a file before the first record for which `keep` is false, or that is not whole. InputError, RunError.
void keep_records(const std::string& path, const std::function<bool(std::string_view record)>& keep);

}  // namespace zerostep
