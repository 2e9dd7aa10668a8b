#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/document_source.h"
#include "runtime/data/text_template.h"

namespace zerostep {

// What texts hold that stops nobody and that their owner should know of. Kept with the tokens, so that a start that finds those says it
// too.
struct TextRemarks {
  // The first byte that is not UTF-8 and that the tokenizer keeps all the same: in which of the source's files, and what a message about it
  // says behind the file's path.
  struct StrayByte {
    int64_t file;
    std::string place;
  };
  std::optional<StrayByte> stray_byte;
  std::vector<int64_t> absent_fields;  // zerostep::absent_fields()

  // A sentence each. What a damaged cache says of files or fields that are not there is left out.
  std::vector<std::string> sentences(const std::vector<std::string>& files, const DocumentSource& source, const TextTemplate& text) const;
  // As text, at most kMostPacked bytes; "": there are none.
  static constexpr size_t kMostPacked = 4096;
  std::string packed() const;
  static TextRemarks unpacked(std::string_view text);
};

// The fields of a template that no row has, most likely slips of the pen: by which of them some row has had, and how many rows were left
// out for want of one.
std::vector<int64_t> absent_fields(const std::vector<bool>& met, int64_t num_left_out);

}  // namespace zerostep
