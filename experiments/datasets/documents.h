#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/document_source.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_template.h"

namespace zerostep {

// Some documents of a source, one after the other.
class DocumentBatch {
 public:
  // Rows of a file, whose text `text` makes of the first fields that were asked for; or a whole text.
  DocumentBatch(std::unique_ptr<RowBatch> rows, const TextTemplate& text, int64_t most);
  explicit DocumentBatch(std::string whole);

  // Goes to the next document, the first at first; false behind the last. Rows that lack a field of the text are counted where the source
  // leaves them out. InputError as RowBatch's and TextTemplate's.
  bool next();
  std::string_view text() const { return text_; }
  // Of the fields that were asked for beside the text's; Missing of a whole text.
  FieldValue field(size_t index) const;
  int64_t num_documents() const { return num_documents_; }
  int64_t num_left_out() const { return num_left_out_; }

 private:
  std::unique_ptr<RowBatch> rows_;
  const TextTemplate* template_ = nullptr;
  int64_t most_;
  std::string buffer_;
  std::string_view text_;
  int64_t num_documents_ = 0, num_left_out_ = 0;
};

// The documents of a source in the order of its files.
class DocumentReader {
 public:
  // `fields`: what is read beside the text. InputError naming the source's key: what corpus_files says, or token files (.bin), which hold
  // no documents.
  DocumentReader(DocumentSource source, std::vector<std::string> fields = {});

  const std::vector<std::string>& files() const { return files_; }
  int64_t num_bytes() const { return num_bytes_; }  // of the files
  // Hands each batch to `work`, on so many threads, and calls what that gives back, in order. A source with max_documents is read on one.
  using Take = std::function<void()>;
  void for_each(int num_threads, const std::function<Take(DocumentBatch&)>& work);

 private:
  std::unique_ptr<DocumentBatch> next();

  DocumentSource source_;
  TextTemplate text_;
  std::vector<std::string> fields_, files_;
  int64_t num_bytes_ = 0, documents_left_ = 0;
  size_t index_ = 0;
  std::unique_ptr<RowReader> rows_;
};

}  // namespace zerostep
