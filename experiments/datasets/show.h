#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/document_source.h"

namespace zerostep {

struct ShowRequest {
  std::vector<DocumentSource> sources;
  const Tokenizer* tokenizer = nullptr;  // nullptr: tokens are not counted
  std::string tokenizer_name;
  int64_t rows = 3;  // that are shown
  int num_threads = 1;
  std::function<void(const std::string&)> remark = nullptr;  // takes what is to be said of the texts, a sentence a call
};

// What there is in some sources, read once from end to end in bounded memory: {"files", "bytes", "text" (what makes a text), "fields"
// [{"name", "type"}], "rows", "left_out", "blank_lines", "missing" and "other_type" (of rows without a text, as a field of it is missing or
// null, or of a type that makes no text: {"rows", "first", "why"}), "empty_rows", "duplicate_rows" ("duplicates_are_estimated" where there
// are more rows than are kept), "characters" and "tokens" (LengthSample, of all rows or, of more than 32 MiB, of a part of them), "first"
// [{field: value}]}. InputError as DocumentReader's, for damaged files and texts that are not UTF-8.
nlohmann::ordered_json show_documents(const ShowRequest& request);
// The same for people.
std::string show_text(const nlohmann::ordered_json& shown);

}  // namespace zerostep
