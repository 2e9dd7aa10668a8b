#include "runtime/data/stream_sections.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/corpus_tokens.h"
#include "runtime/data/text_template.h"

namespace zerostep {
namespace {

// The tokens of one source.
struct SourceTokens {
  std::string name;  // of its files, for messages
  std::vector<TokenFile> files;
  int64_t num_text_bytes = 0;   // of .txt and .jsonl files
  int64_t num_file_tokens = 0;  // of .bin files
  int64_t num_left_out = 0;     // rows of .jsonl files
  bool is_from_cache = true;
};

void check_tokenizer(const DocumentSource& source, const DataOptions& options, const Tokenizer& tokenizer) {
  if (tokenizer.vocabulary_size() <= options.vocabulary_size) return;
  fail_input(
      "{}: the tokenizer has {} tokens (end-of-document is {}) but the model's vocabulary only {}: name the tokenizer that belongs to the "
      "model (data.tokenizer), or set model.vocab_size to at least {} where the file gives the model's sizes",
      source.key, tokenizer.vocabulary_size(), tokenizer.end_of_document(), options.vocabulary_size, tokenizer.vocabulary_size());
}

// A file of 32-bit tokens without a header looks like one of 16-bit tokens of which every second is 0, or as small as a vocabulary's high
// halves are.
void check_width(const TokenFile& file, const DocumentSource& source, const DataOptions& options) {
  constexpr int64_t kLooked = 4096;
  constexpr int64_t kFewest = 64;  // so many small tokens in a row are no text of a vocabulary of 65,536 and more
  const int64_t looked = std::min(kLooked, file.num_tokens()) / 2 * 2;
  std::vector<int32_t> tokens(static_cast<size_t>(looked));
  file.read(0, looked, tokens.data());
  const int64_t highest = (options.vocabulary_size - 1) >> 16;
  bool wide = looked >= kFewest;
  for (size_t i = 1; i < tokens.size(); i += 2) wide = wide && tokens[i] <= highest;
  if (wide)
    fail_input(
        "{}: '{}' has no header of llm.c and seems to hold 32-bit tokens (every second 16-bit one is at most {}): 16-bit tokens are "
        "expected without a header, and 32-bit ones behind llm.c's (magic 20240801, version 7)",
        source.key, file.path(), highest);
}

TokenFile open_checked_bin(const std::string& path, const DocumentSource& source, const DataOptions& options) {
  TokenFile file = TokenFile::open_bin(path, source.key);
  if (file.bytes_per_token() == 2 && options.vocabulary_size > UINT16_MAX) {
    check_width(file, source, options);
    return file;
  }
  if (largest_token_of(file, options) < options.vocabulary_size) return file;
  const int64_t position = file.first_at_least(options.vocabulary_size);
  int32_t token = 0;
  file.read(position, 1, &token);
  fail_input(
      "{}: '{}' holds token {} at position {}, outside the model's vocabulary of {}: name a file of the model's own tokenizer, or set "
      "model.vocab_size to that of the tokenizer that made this one where the file gives the model's sizes",
      source.key, path, static_cast<uint32_t>(token), position, options.vocabulary_size);
}

// What a source asks for is what its files can give.
void check_rules(const DocumentSource& source, const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const CorpusKind kind = corpus_kind(file, source.key);
    if (kind == CorpusKind::Tokens && source.max_documents > 0)
      fail_input("{}: '{}' holds tokens, among which no documents are counted: leave \"max_documents\" out", source.key, file);
    if ((kind == CorpusKind::Tokens || kind == CorpusKind::Text) && !source.text.empty())
      fail_input(
          "{}: '{}' has no fields for the template '{}', which is for the rows of .jsonl, .parquet and .arrow files: leave \"text\" "
          "out, or name it as a source of its own",
          source.key, file, source.text);
  }
}

SourceTokens open_source(const DocumentSource& source, const DataOptions& options, const Tokenizer& tokenizer) {
  const std::vector<std::string> files = corpus_files(source);
  SourceTokens out;
  out.name = files.size() == 1 ? fmt::format("'{}'", files[0]) : fmt::format("'{}' and {} more", files[0], files.size() - 1);
  const auto is_text = [&](const std::string& file) { return corpus_kind(file, source.key) != CorpusKind::Tokens; };
  if (std::any_of(files.begin(), files.end(), is_text)) check_tokenizer(source, options, tokenizer);
  check_rules(source, files);
  for (auto file = files.begin(); file != files.end();) {
    if (!is_text(*file)) {
      out.files.push_back(open_checked_bin(*file++, source, options));
      out.num_file_tokens += out.files.back().num_tokens();
      continue;
    }
    const auto end = std::find_if_not(file, files.end(), is_text);
    CorpusTokens text = tokens_of_text({file, end}, source, options, tokenizer);
    out.num_text_bytes += text.content.num_text_bytes;
    out.num_left_out += text.content.num_left_out;
    out.is_from_cache = out.is_from_cache && text.is_from_cache;
    out.files.push_back(std::move(text.content.tokens));
    file = end;
  }
  if (out.num_text_bytes > 0 || out.num_file_tokens > 0) return out;
  if (out.num_left_out == 0) fail_input("{}: {} is empty: no text and no tokens were found", source.key, out.name);
  fail_input("{}: each of the {} rows of {} lacks one of the fields {} ({} them): none is left", source.key, out.num_left_out, out.name,
             fmt::join(TextTemplate(source).required_fields(), ", "),
             source.text.empty() ? "data.text_field and data.join_fields name" : "its template names");
}

StreamSection open_section(std::span<const DocumentSource> sources, const std::string& key, const DataOptions& options,
                           const Tokenizer& tokenizer) {
  StreamSection section;
  section.key = key;
  for (const DocumentSource& source : sources) {
    SourceTokens tokens = open_source(source, options, tokenizer);
    section.names.push_back(name_of(source));
    section.source_begins.push_back(section.tokens.num_tokens());
    if (section.name.empty()) section.name = tokens.name;
    section.num_left_out += tokens.num_left_out;
    section.is_from_cache = section.is_from_cache && tokens.is_from_cache;
    for (TokenFile& file : tokens.files) section.tokens.append(std::move(file));
  }
  if (sources.size() > 1) section.name += fmt::format(" with {} more sources", sources.size() - 1);
  return section;
}

// Which samples of a section are the stream's. `max_samples`: 0: all.
void choose_samples(StreamSection& section, const DataOptions& options, int64_t max_samples) {
  const int64_t length = options.sequence_length, available = section.tokens.num_tokens();
  if (available < length + 1) {
    fail_input(
        "{}: {} holds {} tokens, fewer than one sample of sequence_length + 1 = {}: name more text or set data.sequence_length to at "
        "most {}",
        section.key, section.name, available, length + 1, available - 1);
  }
  section.corpus_samples = (available - 1) / length;
  section.num_samples = max_samples > 0 ? std::min(section.corpus_samples, max_samples) : section.corpus_samples;
  if (options.part == DataOptions::Part::All) return;
  if (section.num_samples == 1)
    fail_input("{}: {} makes one sample, which cannot be split in two: name more text, or set step.bp_data to \"same\"", section.key,
               section.name);
  const int64_t first =
      std::clamp<int64_t>(static_cast<int64_t>(options.first_share * static_cast<double>(section.num_samples)), 1, section.num_samples - 1);
  section.first_sample = options.part == DataOptions::Part::First ? 0 : first;
  section.num_samples = options.part == DataOptions::Part::First ? first : section.num_samples - first;
}

}  // namespace

void TokenSequence::append(TokenFile file) {
  begins_.push_back(num_tokens_);
  num_tokens_ += file.num_tokens();
  files_.push_back(std::move(file));
}

void TokenSequence::read(int64_t begin, int64_t count, int32_t* out) const {
  auto at = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), begin) - begins_.begin() - 1);
  for (; count > 0; ++at) {
    const int64_t first = begin - begins_[at], part = std::min(count, files_[at].num_tokens() - first);
    files_[at].read(first, part, out);
    begin += part;
    count -= part;
    out += part;
  }
}

const std::string& TokenSequence::path_of(int64_t token) const {
  return nth(files_, std::upper_bound(begins_.begin(), begins_.end(), token) - begins_.begin() - 1).path();
}

std::vector<StreamSection> open_sections(const DataOptions& options, const Tokenizer& tokenizer) {
  std::vector<StreamSection> out;
  if (has_weights(options)) {
    for (const DocumentSource& source : options.sources) {
      out.push_back(open_section({&source, 1}, source.key, options, tokenizer));
      out.back().weight = source.weight;
    }
  } else {
    out.push_back(open_section(options.sources, options.key, options, tokenizer));
  }
  const std::vector<int64_t> limits = sample_limits(options);
  for (size_t i = 0; i < out.size(); ++i) choose_samples(out[i], options, limits.at(i));
  return out;
}

}  // namespace zerostep
