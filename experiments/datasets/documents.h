#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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
  // Rows of a file, whose text `text` makes of the first fields that were asked for; or a whole text. `keeps_textless`: a row that has no
  // text, as a field of it is missing or of another type, is no error and stands among the documents.
  DocumentBatch(std::unique_ptr<RowBatch> rows, const TextTemplate& text, int64_t most, bool keeps_textless);
  explicit DocumentBatch(std::string whole);

  // Goes to the next document, the first at first; false behind the last. Rows that lack a field of the text are counted where the source
  // leaves them out. InputError as RowBatch's and TextTemplate's.
  bool next();
  std::string_view text() const { return text_; }
  // Why the row has no text, where such rows are kept; its text is "" then.
  const std::optional<TextTemplate::Obstacle>& obstacle() const { return obstacle_; }
  // For messages, of a row with an obstacle: its place, and the field with what stands there.
  std::string place() const { return rows_->place(); }
  std::string obstacle_text() const;
  // Adds the fields of the row to those of others, where its file does not say its columns.
  void add_fields(std::vector<TableField>& fields) const;
  // Of the fields that were asked for beside the text's; Missing of a whole text.
  FieldValue field(size_t index) const;
  int64_t num_documents() const { return num_documents_; }
  int64_t num_left_out() const { return num_left_out_; }
  const std::vector<bool>& met() const { return met_; }  // which fields of the text's template a row has had; empty: there are no rows
  int64_t num_blank_lines() const { return rows_ ? rows_->num_blank_lines() : 0; }  // so far, which are no rows

 private:
  std::unique_ptr<RowBatch> rows_;
  const TextTemplate* template_ = nullptr;
  int64_t most_;
  bool keeps_textless_ = false;
  std::optional<TextTemplate::Obstacle> obstacle_;
  std::string buffer_;
  std::string_view text_;
  std::vector<bool> met_;
  int64_t num_documents_ = 0, num_left_out_ = 0;
};

// The documents of a source in the order of its files.
class DocumentReader {
 public:
  // `fields`: what is read beside the text. `keeps_textless`: as DocumentBatch's. InputError naming the source's key: what corpus_files
  // says, or token files (.bin), which hold no documents.
  DocumentReader(DocumentSource source, std::vector<std::string> fields = {}, bool keeps_textless = false);

  const std::vector<std::string>& files() const { return files_; }
  int64_t num_bytes() const { return num_bytes_; }  // of the files
  // Hands each batch to `work`, on so many threads, and calls what that gives back, in order. A source with max_documents is read on one.
  using Take = std::function<void()>;
  void for_each(int num_threads, const std::function<Take(DocumentBatch&)>& work);
  // Tells what is to be said of the texts, when all are read: a sentence a call (TextRemarks). nullptr: nobody asks.
  void tell_remarks(const std::function<void(const std::string&)>& remark) const;

 private:
  std::unique_ptr<DocumentBatch> next();

  DocumentSource source_;
  TextTemplate text_;
  std::vector<std::string> fields_, files_;
  bool keeps_textless_;
  int64_t num_bytes_ = 0, documents_left_ = 0, num_left_out_ = 0;
  std::vector<bool> met_;  // as DocumentBatch's, of all
  size_t index_ = 0;
  std::unique_ptr<RowReader> rows_;
};

}  // namespace zerostep
