#include "runtime/data/tokenize_files.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "base/nth.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_stream.h"
#include "runtime/data/text_template.h"

namespace zerostep {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMaxChunks = 4096;  // of one round: bounds the number of files mapped at once

// A part of a file that can be tokenized by itself.
struct Chunk {
  std::unique_ptr<RowBatch> rows;  // documents; none: a part of a .txt file
  TextPart part;
  int64_t file = 0;                                     // of the files
  bool begins_document = false, ends_document = false;  // .txt: the first and the last part of its file
  int64_t file_bytes = 0;                               // from the chunk before
  size_t num_bytes() const { return rows ? rows->num_bytes() : part.text.size(); }
};

// What a chunk has given up to the end of a document.
struct DocumentEnd {
  size_t num_tokens;
  TextCounts counts;
};

struct ChunkResult {
  std::vector<int32_t> tokens;
  TextCounts counts;
  std::vector<DocumentEnd> ends;  // where documents are counted
  std::vector<bool> met;          // which of the template's fields its rows have
  std::optional<size_t> stray;    // its first byte that is not UTF-8
  std::exception_ptr error;       // met behind these documents
};

// Cuts the files into chunks, one after the other.
class ChunkReader {
 public:
  ChunkReader(const std::vector<std::string>& files, const std::vector<std::string>& fields, const std::string& key,
              const Tokenizer& tokenizer)
      : files_(files), fields_(fields), key_(key), tokenizer_(tokenizer) {}

  std::optional<Chunk> next() {
    for (;;) {
      if (text_) return part_of_text();
      if (rows_) {
        Chunk chunk;
        chunk.rows = rows_->next();
        if (chunk.rows) {
          chunk.file_bytes = advance(rows_->bytes_read());
          return chunk;
        }
        rows_.reset();
      }
      if (index_ == files_.size()) return std::nullopt;
      const std::string& path = files_[index_++];
      bytes_read_ = 0;
      if (corpus_kind(path, key_) == CorpusKind::Text) {
        text_.emplace(path, key_);
        begins_document_ = true;
      } else {
        rows_ = open_rows(path, fields_, key_);
      }
    }
  }

 private:
  // Whether texts may be cut at a place is decided by what stands around it.
  static constexpr size_t kAround = 1 << 16;

  Chunk part_of_text() {
    for (size_t size = kChunkBytes + kAround;; size *= 2) {
      const std::string_view rest = text_->look(size);
      const size_t length = rest.size() <= kChunkBytes ? rest.size() : tokenizer_.split_point(rest, character_end(rest, kChunkBytes));
      if (!text_->is_all() && length + kAround > rest.size()) continue;
      Chunk chunk;
      chunk.begins_document = std::exchange(begins_document_, false);
      chunk.ends_document = length == rest.size();
      chunk.part = text_->take(length);
      chunk.file = static_cast<int64_t>(index_) - 1;
      chunk.file_bytes = advance(text_->bytes_read());
      if (chunk.ends_document) text_.reset();
      return chunk;
    }
  }

  // The first end of a character at or behind a place, so that no part of one is taken for what is no text.
  static size_t character_end(std::string_view text, size_t at) {
    const size_t last = std::min(at + 3, text.size());
    while (at < last && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    return at;
  }

  int64_t advance(int64_t bytes_read) { return bytes_read - std::exchange(bytes_read_, bytes_read); }

  const std::vector<std::string>& files_;
  const std::vector<std::string>& fields_;
  const std::string& key_;
  const Tokenizer& tokenizer_;
  size_t index_ = 0;
  int64_t bytes_read_ = 0;
  std::optional<TextStream> text_;
  bool begins_document_ = false;  // nothing of the text is taken
  std::unique_ptr<RowReader> rows_;
};

// What is the same for all chunks.
struct Rules {
  const DocumentSource& source;
  const TextTemplate& text;
  const Tokenizer& tokenizer;
};

void end_document(const Rules& rules, ChunkResult& result) {
  result.tokens.push_back(rules.tokenizer.end_of_document());
  ++result.counts.num_documents;
  if (rules.source.max_documents > 0) result.ends.push_back({result.tokens.size(), result.counts});
}

void tokenize_rows(RowBatch& rows, const Rules& rules, ChunkResult& result) {
  std::string buffer;
  result.met.resize(rules.text.fields().size());
  while (rows.next()) {
    const std::optional<std::string_view> document = rules.text.text(rows, buffer, &result.met);
    if (!document) {
      ++result.counts.num_left_out;
      continue;
    }
    rules.tokenizer.encode(*document, result.tokens);
    result.counts.num_text_bytes += static_cast<int64_t>(document->size());
    end_document(rules, result);
  }
}

// The first byte of a text that is not UTF-8. InputError where the tokenizer loses it.
std::optional<size_t> stray_byte(const TextPart& part, const Rules& rules) {
  const size_t position = first_ill_formed_byte(part.text);
  if (position == std::string_view::npos) return std::nullopt;
  if (rules.tokenizer.stray_bytes() == Tokenizer::StrayBytes::Lost) fail_input("{}: {}", rules.source.key, part.not_utf8_at(position));
  return position;
}

ChunkResult tokenize_chunk(const Chunk& chunk, const Rules& rules) {
  ChunkResult result;
  result.tokens.reserve(chunk.num_bytes());  // most tokenizers make fewer, and memory that is not written costs nothing
  try {
    if (chunk.rows) {
      tokenize_rows(*chunk.rows, rules, result);
    } else {
      result.stray = stray_byte(chunk.part, rules);
      if (chunk.begins_document) {
        rules.tokenizer.encode(chunk.part.text, result.tokens);
      } else {
        rules.tokenizer.encode_rest(chunk.part.text, result.tokens);
      }
      result.counts.num_text_bytes = static_cast<int64_t>(chunk.part.text.size());
      if (chunk.ends_document) end_document(rules, result);
    }
  } catch (...) {
    result.error = std::current_exception();
  }
  return result;
}

std::vector<ChunkResult> tokenize_round(const std::vector<Chunk>& chunks, size_t num_threads, const Rules& rules) {
  std::vector<ChunkResult> results(chunks.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < chunks.size(); i = next++) results[i] = tokenize_chunk(chunks[i], rules);
  };
  {
    const auto helpers = helper_threads(std::max<size_t>(1, std::min(num_threads, chunks.size())) - 1, [&](size_t) { work(); });
    work();
  }
  return results;
}

// Keeps the first `most` documents of a chunk alone; true where it has that many.
bool keep_documents(ChunkResult& chunk, int64_t most) {
  if (chunk.counts.num_documents < most) return false;
  const DocumentEnd& end = nth(chunk.ends, most - 1);
  chunk.tokens.resize(end.num_tokens);
  chunk.counts = end.counts;
  chunk.error = nullptr;
  return true;
}

// Calls back now and then, and at the end if it did before.
class ProgressReporter {
 public:
  ProgressReporter(const DataOptions& options, int64_t bytes_total) : callback_(options.progress) { state_.bytes_total = bytes_total; }

  void advance(int64_t bytes, int64_t tokens, bool last) {
    if (!callback_) return;
    state_.bytes_done += bytes;
    state_.tokens += tokens;
    state_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const bool due = state_.seconds >= reported_ + kInterval;
    if (!due && !(last && reported_ > 0)) return;
    state_.bytes_per_second = static_cast<double>(state_.bytes_done) / state_.seconds;
    state_.eta_seconds =
        state_.bytes_per_second > 0 ? static_cast<double>(state_.bytes_total - state_.bytes_done) / state_.bytes_per_second : 0;
    reported_ = state_.seconds;
    callback_(state_);
  }

 private:
  static constexpr double kInterval = 0.5;
  const std::function<void(const TokenizeProgress&)>& callback_;
  TokenizeProgress state_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double reported_ = 0;
};

}  // namespace

TokenizeResult tokenize_files(const std::vector<std::string>& files, const DocumentSource& source, const DataOptions& options,
                              const Tokenizer& tokenizer, const std::function<void(std::span<const int32_t>)>& take) {
  int64_t bytes_total = 0;
  for (const std::string& file : files) bytes_total += stamp_of(file).num_bytes;
  const auto num_threads = static_cast<size_t>(
      std::max(1, options.num_threads > 0 ? options.num_threads : static_cast<int>(std::thread::hardware_concurrency())));
  const TextTemplate text(source);
  const Rules rules{source, text, tokenizer};
  ChunkReader chunks_of_files(files, text.fields(), source.key, tokenizer);
  ProgressReporter progress(options, bytes_total);
  TokenizeResult result;
  const auto tell = [&](const TextRemarks& remarks) {
    for (const std::string& sentence : remarks.sentences(files, source, text)) options.remark(sentence);
  };
  std::vector<bool> met(text.fields().size());
  for (bool last = false; !last;) {
    std::vector<Chunk> round;
    // What a file that is damaged further on holds before comes first, with its own errors.
    std::exception_ptr error;
    size_t round_bytes = 0;
    int64_t file_bytes = 0;
    while (round_bytes < 2 * num_threads * kChunkBytes && round.size() < kMaxChunks) {
      std::optional<Chunk> chunk;
      try {
        chunk = chunks_of_files.next();
      } catch (...) {
        error = std::current_exception();
      }
      last = !chunk;
      if (last) break;
      round_bytes += chunk->num_bytes();
      file_bytes += chunk->file_bytes;
      round.push_back(std::move(*chunk));
    }
    int64_t round_tokens = 0;
    std::vector<ChunkResult> results = tokenize_round(round, num_threads, rules);
    for (size_t i = 0; i < results.size(); ++i) {
      ChunkResult& chunk = results[i];
      const bool is_full = source.max_documents > 0 && keep_documents(chunk, source.max_documents - result.num_documents);
      if (chunk.error) std::rethrow_exception(chunk.error);
      if (chunk.stray && !result.remarks.stray_byte) {
        const TextPart& part = round[i].part;
        result.remarks.stray_byte = {round[i].file, part.not_utf8_at(*chunk.stray).substr(part.path.size())};
        tell({.stray_byte = result.remarks.stray_byte, .absent_fields = {}});
      }
      take(chunk.tokens);
      for (size_t f = 0; f < chunk.met.size(); ++f) met[f] = met[f] || chunk.met[f];
      round_tokens += static_cast<int64_t>(chunk.tokens.size());
      result.num_documents += chunk.counts.num_documents;
      result.num_text_bytes += chunk.counts.num_text_bytes;
      result.num_left_out += chunk.counts.num_left_out;
      if (!is_full) continue;
      last = true;
      error = nullptr;
      break;
    }
    if (error) std::rethrow_exception(error);
    progress.advance(file_bytes, round_tokens, last);
  }
  result.remarks.absent_fields = absent_fields(met, result.num_left_out);
  tell({.stray_byte = {}, .absent_fields = result.remarks.absent_fields});
  return result;
}

}  // namespace zerostep
