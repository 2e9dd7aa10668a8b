#include "runtime/data/tokenize_files.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "base/mapped_file.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/lacks_field.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMaxChunks = 4096;  // of one round: bounds the number of files mapped at once

// A part of a file that can be tokenized by itself.
struct Chunk {
  std::shared_ptr<const MappedFile> file;
  CorpusKind kind;
  size_t begin, end;
  bool ends_document;  // .txt: the last part of its file
  std::string_view text() const { return file->text().substr(begin, end - begin); }
};

struct ChunkResult {
  std::vector<int32_t> tokens;
  int64_t num_documents = 0, num_text_bytes = 0, num_left_out = 0;
  std::string stray;  // where bytes are that are no text, of a tokenizer that keeps them
  std::exception_ptr error;
};

// Cuts the files into chunks, one after the other.
class ChunkReader {
 public:
  ChunkReader(const std::vector<std::string>& files, const std::string& key, const Tokenizer& tokenizer)
      : files_(files), key_(key), tokenizer_(tokenizer) {}

  std::optional<Chunk> next() {
    if (!file_) {
      if (index_ == files_.size()) return std::nullopt;
      file_ = std::make_shared<const MappedFile>(files_[index_]);
      kind_ = corpus_kind(files_[index_], key_);
      ++index_;
      begin_ = 0;
    }
    const std::string_view rest = file_->text().substr(begin_);
    const size_t length = kind_ == CorpusKind::Text ? tokenizer_.split_point(rest, kChunkBytes) : whole_lines(rest);
    Chunk chunk{file_, kind_, begin_, begin_ + length, length == rest.size()};
    begin_ += length;
    if (chunk.ends_document) file_.reset();
    return chunk;
  }

 private:
  static size_t whole_lines(std::string_view text) {
    if (text.size() <= kChunkBytes) return text.size();
    const size_t line_end = text.find('\n', kChunkBytes);
    return line_end == std::string_view::npos ? text.size() : line_end + 1;
  }

  const std::vector<std::string>& files_;
  const std::string& key_;
  const Tokenizer& tokenizer_;
  size_t index_ = 0, begin_ = 0;
  std::shared_ptr<const MappedFile> file_;
  CorpusKind kind_ = CorpusKind::Text;
};

// The text of one .jsonl line.
class LineReader {
 public:
  explicit LineReader(const DocumentSource& source) : source_(source) {}

  // Nothing: the row lacks a field and is left out.
  std::optional<std::string> read(const Chunk& chunk, std::string_view line) const {
    json object;
    try {
      object = json::parse(line.begin(), line.end());
    } catch (const json::exception& e) {
      // "[json.exception.parse_error.101] parse error at line 1, column 5: ...": the line is ours to tell.
      const std::string_view what = e.what();
      require_lines("", chunk.file->path(), chunk.file->text());
      fail_input("{} is not valid JSON: {}; one object a line is expected", place(chunk, line), what.substr(what.find("] ") + 2, 300));
    }
    if (!object.is_object())
      fail_input("{} is {}; an object with the field '{}' is expected", place(chunk, line), object.type_name(), source_.text_field);
    if (source_.skips_missing && lacks_field(object, source_.text_field, source_.join_fields)) return std::nullopt;
    std::string text = field(chunk, line, object, source_.text_field, "data.text_field");
    for (const std::string& name : source_.join_fields) text.append("\n").append(field(chunk, line, object, name, "data.join_fields"));
    return text;
  }

 private:
  static std::string place(const Chunk& chunk, std::string_view line) {
    const std::string_view before(chunk.file->text().data(), static_cast<size_t>(line.data() - chunk.file->text().data()));
    return fmt::format("{}:{}", chunk.file->path(), std::count(before.begin(), before.end(), '\n') + 1);
  }

  static std::string field(const Chunk& chunk, std::string_view line, const json& object, const std::string& name, const char* key) {
    const auto found = object.find(name);
    if (found == object.end()) {
      std::vector<std::string> names;
      for (const auto& [key, value] : object.items()) names.push_back(key);
      fail_input("{} has no field '{}', which {} names; its fields are: {} (data.missing \"skip\" leaves such rows out)",
                 place(chunk, line), name, key, fmt::join(names, ", "));
    }
    if (!found->is_string())
      fail_input("{}: field '{}' is {}; a string is expected{}", place(chunk, line), name, found->type_name(),
                 found->is_null() ? " (data.missing \"skip\" leaves such rows out)" : "");
    return found->get<std::string>();
  }

  const DocumentSource& source_;
};

void tokenize_lines(const Chunk& chunk, const LineReader& reader, const Tokenizer& tokenizer, ChunkResult& result) {
  for_each_line(chunk.text(), [&](std::string_view line, int64_t) {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const std::optional<std::string> document = reader.read(chunk, line);
    if (!document) {
      ++result.num_left_out;
      return;
    }
    tokenizer.encode(*document, result.tokens);
    result.tokens.push_back(tokenizer.end_of_document());
    ++result.num_documents;
    result.num_text_bytes += static_cast<int64_t>(document->size());
  });
}

// Bytes of a text that are not UTF-8: InputError where the tokenizer loses them; gives their place where it keeps them all the same.
std::string stray_bytes(const Chunk& chunk, const Tokenizer& tokenizer) {
  if (tokenizer.stray_bytes() == Tokenizer::StrayBytes::Expected) return "";
  const size_t position = first_ill_formed_byte(chunk.text());
  if (position == std::string_view::npos) return "";
  const std::string what = not_utf8(chunk.file->path(), chunk.file->text(), chunk.begin + position);
  if (tokenizer.stray_bytes() == Tokenizer::StrayBytes::Lost) fail_input("{}", what);
  return what;
}

ChunkResult tokenize_chunk(const Chunk& chunk, const LineReader& reader, const Tokenizer& tokenizer) {
  ChunkResult result;
  try {
    if (chunk.kind == CorpusKind::JsonLines) {
      tokenize_lines(chunk, reader, tokenizer, result);
    } else {
      result.stray = stray_bytes(chunk, tokenizer);
      if (chunk.begin == 0) {
        tokenizer.encode(chunk.text(), result.tokens);
      } else {
        tokenizer.encode_rest(chunk.text(), result.tokens);
      }
      result.num_text_bytes = static_cast<int64_t>(chunk.text().size());
      if (chunk.ends_document) {
        result.tokens.push_back(tokenizer.end_of_document());
        result.num_documents = 1;
      }
    }
  } catch (...) {
    result.error = std::current_exception();
  }
  return result;
}

std::vector<ChunkResult> tokenize_round(const std::vector<Chunk>& chunks, size_t num_threads, const LineReader& reader,
                                        const Tokenizer& tokenizer) {
  std::vector<ChunkResult> results(chunks.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < chunks.size(); i = next++) results[i] = tokenize_chunk(chunks[i], reader, tokenizer);
  };
  {
    const auto helpers = helper_threads(std::max<size_t>(1, std::min(num_threads, chunks.size())) - 1, [&](size_t) { work(); });
    work();
  }
  return results;
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
  ChunkReader chunks_of_files(files, source.key, tokenizer);
  const LineReader reader(source);
  ProgressReporter progress(options, bytes_total);
  TokenizeResult result;
  bool told_stray = false;
  for (bool last = false; !last;) {
    std::vector<Chunk> round;
    size_t round_bytes = 0;
    while (round_bytes < 2 * num_threads * kChunkBytes && round.size() < kMaxChunks) {
      std::optional<Chunk> chunk = chunks_of_files.next();
      last = !chunk;
      if (last) break;
      round_bytes += chunk->end - chunk->begin;
      round.push_back(std::move(*chunk));
    }
    int64_t round_tokens = 0;
    for (const ChunkResult& chunk : tokenize_round(round, num_threads, reader, tokenizer)) {
      if (chunk.error) std::rethrow_exception(chunk.error);
      if (!chunk.stray.empty() && !std::exchange(told_stray, true))
        options.warn(fmt::format("{}; its bytes are kept as they are", chunk.stray));
      take(chunk.tokens);
      round_tokens += static_cast<int64_t>(chunk.tokens.size());
      result.num_documents += chunk.num_documents;
      result.num_text_bytes += chunk.num_text_bytes;
      result.num_left_out += chunk.num_left_out;
    }
    progress.advance(static_cast<int64_t>(round_bytes), round_tokens, last);
  }
  return result;
}

}  // namespace zerostep
