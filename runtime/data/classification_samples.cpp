#include "runtime/data/classification_samples.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/source_rules.h"
#include "runtime/data/table_file.h"

namespace zerostep {
namespace {

// To be raised when the same files, tokenizer and options would give other samples.
constexpr uint64_t kSamplesFormat = 3;
constexpr size_t kRowsEach = 64;  // that a thread takes at a time

// The file: numbers of samples, names, tokens and the largest token; each name and the place where it first occurs, as length and bytes; of
// each sample its name, number of tokens, label position and whether it was cut; then the tokens. All of 4 bytes.
constexpr int64_t kHeaderValues = 4, kEntryValues = 4;
constexpr int64_t kFourBytes = int64_t{1} << 31;

using Files = std::vector<std::string>;

void add_rules(ContentHash& hash, const Files& files, const DocumentSource& source, const ClassificationOptions& options,
               const Tokenizer& tokenizer) {
  hash.add("classification").add(kSamplesFormat).add(tokenizer.fingerprint()).add(files.size());
  for (const std::string& file : files) hash.add(static_cast<uint64_t>(table_kind(file, source.key)));
  add_file_rules(hash, source, files);
  add_text_rules(hash, source);
  hash.add(options.label_field);
  hash.add(static_cast<uint64_t>(options.sequence_length)).add(options.prompt ? options.prompt->identity() : "");
}

// The rows of all files of a source, and where each stands.
struct Rows {
  std::vector<TableRow> rows;
  std::vector<std::pair<size_t, const std::string*>> file_ends;  // rows before the end of a file
  TableNotes notes;

  std::string place(size_t row) const {
    const auto file = std::upper_bound(file_ends.begin(), file_ends.end(), row, [](size_t r, const auto& end) { return r < end.first; });
    return fmt::format("{}:{}", *file->second, rows[row].line);
  }
};

Rows read_rows(const Files& files, const DocumentSource& source, const ClassificationOptions& options) {
  Rows all;
  DocumentSource rest = source;
  for (const std::string& file : files) {
    if (source.max_documents > 0) rest.max_documents = source.max_documents - std::ssize(all.rows);
    if (source.max_documents > 0 && rest.max_documents == 0) break;
    std::vector<TableRow> rows = read_table(file, rest, options.label_field, &all.notes);
    all.rows.insert(all.rows.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
    all.file_ends.emplace_back(all.rows.size(), &file);
  }
  return all;
}

std::vector<EncodedText> encode_rows(const Rows& all, const DocumentSource& source, const ClassificationOptions& options,
                                     const Tokenizer& tokenizer) {
  std::vector<EncodedText> encoded(all.rows.size());
  std::atomic<size_t> next = 0;
  const auto encode = [&](size_t row) {
    const std::string& text = all.rows[row].text;
    encoded[row] = options.prompt ? options.prompt->encode(tokenizer, text, options.sequence_length)
                                  : encode_plain(tokenizer, text, options.sequence_length);
    const bool reads_one = options.prompt && !options.prompt->masked();
    if (encoded[row].tokens.empty() || (reads_one && encoded[row].label_position == 0)) {
      fail_input("{}: {}: the text has no token; every sample needs one", source.key, all.place(row));
    }
  };
  const auto num_threads = static_cast<size_t>(
      std::max(1, options.num_threads > 0 ? options.num_threads : static_cast<int>(std::thread::hardware_concurrency())));
  std::vector<std::exception_ptr> errors(num_threads);
  const auto work = [&](size_t thread) {
    try {
      for (size_t begin = next.fetch_add(kRowsEach); begin < all.rows.size(); begin = next.fetch_add(kRowsEach)) {
        for (size_t row = begin; row < std::min(begin + kRowsEach, all.rows.size()); ++row) encode(row);
      }
    } catch (...) {
      errors[thread] = std::current_exception();
    }
  };
  {
    const auto helpers = helper_threads(std::min(num_threads, all.rows.size() / kRowsEach + 1) - 1, work);
    work(0);
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return encoded;
}

void append_text(std::vector<int32_t>& out, const std::string& text) {
  out.push_back(static_cast<int32_t>(text.size()));
  for (char c : text) out.push_back(static_cast<unsigned char>(c));
}

TokenizeResult write_samples(TokenCacheWriter& writer, const Files& files, const DocumentSource& source,
                             const ClassificationOptions& options, const Tokenizer& tokenizer) {
  const Rows all = read_rows(files, source, options);
  const std::vector<EncodedText> encoded = encode_rows(all, source, options, tokenizer);
  std::vector<int32_t> names, entries;
  std::unordered_map<std::string, int32_t> name_indices;
  TokenizeResult result;
  int64_t num_tokens = 0;
  int32_t largest = 0;
  for (size_t row = 0; row < all.rows.size(); ++row) {
    const std::string& label = all.rows[row].label;
    const auto [name, is_new] = name_indices.emplace(label, static_cast<int32_t>(name_indices.size()));
    if (is_new) {
      append_text(names, label);
      append_text(names, all.place(row));
    }
    const EncodedText& text = encoded[row];
    entries.insert(entries.end(), {name->second, static_cast<int32_t>(text.tokens.size()), static_cast<int32_t>(text.label_position),
                                   static_cast<int32_t>(text.truncated)});
    num_tokens += std::ssize(text.tokens);
    for (int32_t token : text.tokens) largest = std::max(largest, token);
    result.num_text_bytes += std::ssize(all.rows[row].text);
  }
  result.num_documents = std::ssize(all.rows);
  result.num_left_out = all.notes.num_left_out;
  result.remarks.absent_fields = absent_fields(all.notes.met, all.notes.num_left_out);
  if (num_tokens > INT32_MAX)
    fail_input("{}: the texts have {} tokens; at most {} are supported for classification", source.key, num_tokens, INT32_MAX);
  const std::vector<int32_t> header = {static_cast<int32_t>(all.rows.size()), static_cast<int32_t>(name_indices.size()),
                                       static_cast<int32_t>(num_tokens), largest};
  writer.append(header);
  writer.append(names);
  writer.append(entries);
  for (const EncodedText& text : encoded) writer.append(text.tokens);
  return result;
}

}  // namespace

ClassificationSamples::ClassificationSamples(const ClassificationOptions& options, const Tokenizer& tokenizer) {
  for (const DocumentSource& source : options.sources) {
    const Files files = table_files(source);
    const auto make = [&](TokenCacheWriter& writer) { return write_samples(writer, files, source, options, tokenizer); };
    CorpusTokens tokens = cached_tokens({.files = files,
                                         .key = source.key,
                                         .cache = options.cache,
                                         .vocabulary_size = kFourBytes,
                                         .add_rules = [&](ContentHash& hash) { add_rules(hash, files, source, options, tokenizer); },
                                         .make = make,
                                         .warn = options.warn,
                                         .before_reading = options.before_reading});
    const int64_t num_left_out = tokens.content.num_left_out, before = size();
    is_from_cache_ = is_from_cache_ && tokens.is_from_cache;
    num_left_out_ += num_left_out;
    for (const std::string& sentence : tokens.content.remarks.sentences(files, source, TextTemplate(source))) options.remark(sentence);
    append(std::move(tokens.content.tokens));
    if (size() > before) continue;
    fail_input("{}: '{}' holds no row{}; one sample a row is expected", source.key, fmt::join(files, "', '"),
               num_left_out > 0 ? fmt::format(" beside {} that lack a field and are left out", num_left_out) : "");
  }
}

int32_t ClassificationSamples::index_of_name(std::string name, std::string place) {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found != names_.end()) return static_cast<int32_t>(found - names_.begin());
  names_.push_back(std::move(name));
  places_.push_back(std::move(place));
  return static_cast<int32_t>(std::ssize(names_) - 1);
}

void ClassificationSamples::append(TokenFile file) {
  int64_t at = 0;
  const auto read = [&](int64_t count) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    file.read(at, count, values.data());
    at += count;
    return values;
  };
  const auto read_text = [&] {
    std::string text;
    for (int32_t c : read(read(1)[0])) text += static_cast<char>(static_cast<unsigned char>(c));
    return text;
  };
  const std::vector<int32_t> header = read(kHeaderValues);
  std::vector<int32_t> names;
  for (int32_t i = 0; i < header[1]; ++i) {
    std::string name = read_text(), place = read_text();
    names.push_back(index_of_name(std::move(name), std::move(place)));
  }
  const std::vector<int32_t> entries = read(kEntryValues * header[0]);
  first_entries_.push_back(size());
  int64_t begin = at;
  for (auto entry = entries.begin(); entry != entries.end(); entry += kEntryValues) {
    entries_.push_back({begin, nth(names, entry[0]), entry[1], entry[2], entry[3] != 0});
    begin += entry[1];
  }
  total_ += header[2];
  largest_ = std::max(largest_, static_cast<uint32_t>(header[3]));
  files_.push_back(std::move(file));
}

EncodedText ClassificationSamples::text(int64_t index) const {
  const Entry& entry = nth(entries_, index);
  EncodedText out{std::vector<int32_t>(static_cast<size_t>(entry.num_tokens)), entry.label_position, entry.truncated};
  const auto file = std::upper_bound(first_entries_.begin(), first_entries_.end(), index) - first_entries_.begin() - 1;
  nth(files_, file).read(entry.begin, entry.num_tokens, out.tokens.data());
  return out;
}

}  // namespace zerostep
