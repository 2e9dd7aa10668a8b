#include "experiments/datasets/documents.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/text_remarks.h"
#include "runtime/data/text_stream.h"

namespace zerostep {

DocumentBatch::DocumentBatch(std::unique_ptr<RowBatch> rows, const TextTemplate& text, int64_t most, bool keeps_textless)
    : rows_(std::move(rows)), template_(&text), most_(most), keeps_textless_(keeps_textless), met_(text.fields().size()) {}

DocumentBatch::DocumentBatch(std::string whole) : most_(1), buffer_(std::move(whole)) {}

bool DocumentBatch::next() {
  if (num_documents_ == most_) return false;
  if (!rows_) {
    text_ = buffer_;
    ++num_documents_;
    return true;
  }
  while (rows_->next()) {
    if (keeps_textless_) obstacle_ = template_->obstacle(*rows_);
    if (obstacle_) {
      text_ = {};
      ++num_documents_;
      return true;
    }
    const std::optional<std::string_view> text = template_->text(*rows_, buffer_, &met_);
    if (text) {
      text_ = *text;
      ++num_documents_;
      return true;
    }
    ++num_left_out_;
  }
  return false;
}

std::string DocumentBatch::obstacle_text() const {
  using Kind = FieldValue::Kind;
  const Kind kind = obstacle_->kind;
  return fmt::format("field '{}' is {}", template_->fields()[obstacle_->field],
                     kind == Kind::Missing ? "missing"
                     : kind == Kind::Null  ? "null"
                                           : rows_->type_of(obstacle_->field));
}

void DocumentBatch::add_fields(std::vector<TableField>& fields) const {
  if (rows_) rows_->add_fields(fields);
}

FieldValue DocumentBatch::field(size_t index) const { return rows_ ? rows_->field(template_->fields().size() + index) : FieldValue(); }

DocumentReader::DocumentReader(DocumentSource source, std::vector<std::string> fields, bool keeps_textless)
    : source_(std::move(source)), text_(source_), files_(corpus_files(source_)), keeps_textless_(keeps_textless) {
  fields_ = text_.fields();
  fields_.insert(fields_.end(), fields.begin(), fields.end());
  documents_left_ = source_.max_documents > 0 ? source_.max_documents : std::numeric_limits<int64_t>::max();
  for (const std::string& file : files_) {
    if (corpus_kind(file, source_.key) == CorpusKind::Tokens)
      fail_input("{}: '{}' holds tokens and no documents: name the texts that they were made of", source_.key, file);
    num_bytes_ += stamp_of(file).num_bytes;
  }
}

std::unique_ptr<DocumentBatch> DocumentReader::next() {
  for (;;) {
    if (rows_) {
      if (auto rows = rows_->next()) return std::make_unique<DocumentBatch>(std::move(rows), text_, documents_left_, keeps_textless_);
      rows_.reset();
    }
    if (index_ == files_.size() || documents_left_ == 0) return nullptr;
    const std::string& path = files_[index_++];
    if (corpus_kind(path, source_.key) != CorpusKind::Text) {
      rows_ = open_rows(path, fields_, source_.key);
      continue;
    }
    TextStream stream(path, source_.key);
    constexpr size_t kAll = std::numeric_limits<size_t>::max() / 4;
    const TextPart whole = stream.take(stream.look(kAll).size());
    if (const size_t stray = first_ill_formed_byte(whole.text); stray != std::string_view::npos)
      fail_input("{}: {}", source_.key, whole.not_utf8_at(stray));
    return std::make_unique<DocumentBatch>(std::string(whole.text));
  }
}

void DocumentReader::for_each(int num_threads, const std::function<Take(DocumentBatch&)>& work) {
  const size_t threads = source_.max_documents > 0 ? 1 : static_cast<size_t>(std::max(1, num_threads));
  for (bool last = false; !last;) {
    std::vector<std::unique_ptr<DocumentBatch>> batches;
    while (batches.size() < (threads == 1 ? 1 : 4 * threads) && !last) {
      batches.push_back(next());
      last = batches.back() == nullptr;
    }
    if (last) batches.pop_back();
    std::vector<Take> takes(batches.size());
    std::vector<std::exception_ptr> errors(batches.size());
    std::atomic<size_t> at = 0;
    const auto run = [&] {
      for (size_t i = at++; i < batches.size(); i = at++) {
        try {
          takes[i] = work(*batches[i]);
        } catch (...) {
          errors[i] = std::current_exception();
        }
      }
    };
    {
      const auto helpers = helper_threads(std::max<size_t>(1, std::min(threads, batches.size())) - 1, [&](size_t) { run(); });
      run();
    }
    for (size_t i = 0; i < batches.size(); ++i) {
      if (errors[i]) std::rethrow_exception(errors[i]);
      takes[i]();
      const DocumentBatch& batch = *batches[i];
      documents_left_ -= batch.num_documents();
      num_left_out_ += batch.num_left_out();
      met_.resize(std::max(met_.size(), batch.met().size()));
      for (size_t f = 0; f < batch.met().size(); ++f) met_[f] = met_[f] || batch.met()[f];
    }
  }
}

void DocumentReader::tell_remarks(const std::function<void(const std::string&)>& remark) const {
  if (!remark) return;
  const TextRemarks found{.stray_byte = {}, .absent_fields = absent_fields(met_, num_left_out_)};
  for (const std::string& sentence : found.sentences(files_, source_, text_)) remark(sentence);
}

}  // namespace zerostep
