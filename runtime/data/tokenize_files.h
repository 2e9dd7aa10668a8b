#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/data_stream.h"
#include "runtime/data/text_remarks.h"

namespace zerostep {

struct TextCounts {
  int64_t num_documents = 0;
  int64_t num_text_bytes = 0;  // tokenized, end-of-document tokens aside
  int64_t num_left_out = 0;    // rows that lack a field
};
struct TokenizeResult : TextCounts {
  TextRemarks remarks;
};

// Tokenizes the texts of one source's files in their order on `options.num_threads` threads, a few megabytes of text at a time whatever the
// files' sizes, and hands the tokens to `take` in order; each document, a .txt file or a row, is followed by the end-of-document token.
// Blank lines of a .jsonl file are no documents. Remarks are told as they are found. Ends behind the source's max_documents. InputError
// with file and line, or row, for one that is malformed, and for a damaged file.
TokenizeResult tokenize_files(const std::vector<std::string>& files, const DocumentSource& source, const DataOptions& options,
                              const Tokenizer& tokenizer, const std::function<void(std::span<const int32_t>)>& take);

}  // namespace zerostep
