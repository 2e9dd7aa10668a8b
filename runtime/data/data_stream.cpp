#include "runtime/data/data_stream.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "base/console.h"
#include "base/content_hash.h"
#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/corpus_tokens.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/spread_samples.h"
#include "runtime/data/text_template.h"
#include "runtime/data/token_file.h"

namespace zerostep {
namespace {

// Token files end to end.
class TokenSequence {
 public:
  void append(TokenFile file) {
    begins_.push_back(num_tokens_);
    num_tokens_ += file.num_tokens();
    files_.push_back(std::move(file));
  }
  int64_t num_tokens() const { return num_tokens_; }

  void read(int64_t begin, int64_t count, int32_t* out) const {
    auto at = static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), begin) - begins_.begin() - 1);
    for (; count > 0; ++at) {
      const int64_t first = begin - begins_[at], part = std::min(count, files_[at].num_tokens() - first);
      files_[at].read(first, part, out);
      begin += part;
      count -= part;
      out += part;
    }
  }
  const std::string& path_of(int64_t token) const {
    return nth(files_, std::upper_bound(begins_.begin(), begins_.end(), token) - begins_.begin() - 1).path();
  }

 private:
  std::vector<TokenFile> files_;
  std::vector<int64_t> begins_;
  int64_t num_tokens_ = 0;
};

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

// Sources that are cut into samples together: all of them, or one of those that have weights.
struct Section {
  TokenSequence tokens;
  std::string key, name;               // for messages
  std::vector<std::string> names;      // of the sources
  std::vector<int64_t> source_begins;  // the first token of each source
  double weight = 1;
  int64_t num_left_out = 0;
  bool is_from_cache = true;
  int64_t corpus_samples = 0, first_sample = 0, num_samples = 0;  // that it makes; of these the ones that are chosen
};

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

Section open_section(std::span<const DocumentSource> sources, const std::string& key, const DataOptions& options,
                     const Tokenizer& tokenizer) {
  Section section;
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

std::vector<Section> open_sections(const DataOptions& options, const Tokenizer& tokenizer) {
  std::vector<Section> out;
  if (!has_weights(options)) {
    out.push_back(open_section(options.sources, options.key, options, tokenizer));
    return out;
  }
  for (const DocumentSource& source : options.sources) {
    out.push_back(open_section({&source, 1}, source.key, options, tokenizer));
    out.back().weight = source.weight;
  }
  return out;
}

// Which samples of a section are the stream's. `max_samples`: 0: all.
void choose_samples(Section& section, const DataOptions& options, int64_t max_samples) {
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

std::vector<SampleOrder::Part> parts_of(const std::vector<Section>& sections) {
  std::vector<SampleOrder::Part> out;
  for (const Section& section : sections) out.push_back({section.num_samples, section.weight});
  return out;
}

class MappedDataStream final : public DataStream {
 public:
  MappedDataStream(DataOptions options, std::vector<Section> sections)
      : options_(std::move(options)),
        sections_(std::move(sections)),
        order_(parts_of(sections_), options_.shuffle, options_.seed),
        num_samples_(order_.size()) {}

  int64_t num_samples() const override { return num_samples_; }
  int64_t num_tokens() const override {
    return sum([](const Section& section) { return section.tokens.num_tokens(); });
  }
  int64_t num_sample_tokens() const override { return num_samples_ * options_.sequence_length; }
  bool is_from_cache() const override {
    return std::all_of(sections_.begin(), sections_.end(), [](const Section& section) { return section.is_from_cache; });
  }
  int64_t num_left_out() const override {
    return sum([](const Section& section) { return section.num_left_out; });
  }

  std::string fingerprint() const override {
    if (sections_.size() == 1) return fingerprint_of(sections_.front());
    ContentHash hash;
    hash.add("mixture");
    for (int64_t i = 0; i < order_.num_parts(); ++i) hash.add(fmt::format("{}", order_.share(i))).add(fingerprint_of(nth(sections_, i)));
    return hash.hex();
  }

  bool is_weighted() const override { return has_weights(options_); }

  std::vector<SampleSource> sources() const override {
    std::vector<SampleSource> out;
    for (int64_t i = 0; i < order_.num_parts(); ++i) {
      const Section& section = nth(sections_, i);
      for (size_t k = 0; k < section.names.size(); ++k) {
        const int64_t begin = k == 0 ? 0 : first_at_token(section, section.source_begins[k]);
        const int64_t end = k + 1 < section.names.size() ? first_at_token(section, section.source_begins[k + 1]) : section.num_samples;
        out.push_back({section.names[k], 0, end - begin});
        out.back().share =
            is_weighted() ? order_.share(i) : static_cast<double>(out.back().num_samples) / static_cast<double>(num_samples_);
      }
    }
    return out;
  }

  std::vector<int64_t> sources_of_batch(int64_t step, int64_t global_batch) const override {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < global_batch; ++i) {
      const int64_t index = order_.at(step * global_batch + i), part = order_.part_of(index);
      const std::vector<int64_t>& begins = nth(sections_, part).source_begins;
      const int64_t token = place_of(nth(sections_, part), index - order_.first_of(part)) * options_.sequence_length;
      out.push_back(is_weighted() ? part : std::upper_bound(begins.begin(), begins.end(), token) - begins.begin() - 1);
    }
    return out;
  }

  int64_t tokens_of_batch(int64_t, int64_t global_batch) const override { return global_batch * options_.sequence_length; }

  std::vector<int32_t> sample(int64_t position) const override { return tokens_of(order_.at(position)); }

  Batch batch(int64_t step, int64_t accumulation_step, const BatchShape& shape) const override {
    const int64_t micro = shape.micro_batch, first = shape.first_sample(step, accumulation_step);
    Batch batch = assemble(step * shape.global_batch + first, micro, [this](int64_t position) { return order_.at(position); });
    batch.global_valid_tokens = shape.global_batch * options_.sequence_length;
    return batch;
  }

  Batch ordered(int64_t begin, int64_t end) const override {
    if (begin < 0 || begin >= end || end > num_samples_) fail_protocol("samples {} to {} of {} in file order", begin, end, num_samples_);
    Batch batch = assemble(begin, end - begin, [](int64_t position) { return position; });
    batch.global_valid_tokens = batch.valid_tokens;
    return batch;
  }

 private:
  template <typename Number>
  int64_t sum(Number number_of) const {
    int64_t total = 0;
    for (const Section& section : sections_) total += number_of(section);
    return total;
  }

  std::string fingerprint_of(const Section& section) const {
    constexpr int64_t kRuns = 4096, kRunTokens = 64;
    const int64_t begin = section.first_sample * options_.sequence_length, count = section.num_samples * options_.sequence_length + 1;
    const int64_t runs = std::min(kRuns, (count + kRunTokens - 1) / kRunTokens);
    ContentHash hash;
    hash.add(static_cast<uint64_t>(section.num_samples)).add(static_cast<uint64_t>(options_.shuffle));
    for (int64_t i = 0, some = std::min(kRuns, section.num_samples); options_.spread && i < some; ++i) {
      const std::vector<int32_t> tokens = tokens_of(spread_sample(i, some, section.num_samples));
      hash.add(std::string_view(reinterpret_cast<const char*>(tokens.data()), sizeof(int32_t) * tokens.size()));
    }
    if (options_.spread) return hash.hex();
    for (int64_t r = 0; r < runs; ++r) {
      std::array<int32_t, kRunTokens> tokens{};
      const int64_t at = runs < kRuns ? r * kRunTokens : (count - kRunTokens) / (kRuns - 1) * r;
      section.tokens.read(begin + at, std::min(kRunTokens, count - at), tokens.data());
      hash.add(std::string_view(reinterpret_cast<const char*>(tokens.data()), sizeof(tokens)));
    }
    return hash.hex();
  }

  // Where the sample `index` of those chosen stands among all that a section makes.
  int64_t place_of(const Section& section, int64_t index) const {
    return options_.spread ? spread_sample(index, section.num_samples, section.corpus_samples) : section.first_sample + index;
  }
  // The first of the chosen samples that begins at a token or after it.
  int64_t first_at_token(const Section& section, int64_t token) const {
    int64_t low = 0, high = section.num_samples;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      place_of(section, middle)* options_.sequence_length < token ? low = middle + 1 : high = middle;
    }
    return low;
  }

  std::vector<int32_t> tokens_of(int64_t index) const {
    const int64_t part = order_.part_of(index);
    const Section& section = nth(sections_, part);
    const int64_t begin = place_of(section, index - order_.first_of(part)) * options_.sequence_length;
    std::vector<int32_t> tokens(static_cast<size_t>(options_.sequence_length + 1));
    section.tokens.read(begin, static_cast<int64_t>(tokens.size()), tokens.data());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] >= 0 && tokens[i] < options_.vocabulary_size) continue;
      const int64_t position = begin + static_cast<int64_t>(i);
      fail_run(
          "{}: '{}' now holds token {} (position {} of the corpus), outside the model's vocabulary of {}: the file was changed or damaged "
          "since the start; restore it, or delete it if it is a token cache",
          section.key, section.tokens.path_of(position), tokens[i], position, options_.vocabulary_size);
    }
    return tokens;
  }

  template <typename IndexOf>
  Batch assemble(int64_t first, int64_t count, IndexOf index_of_position) const {
    const int64_t length = options_.sequence_length;
    Batch batch;
    batch.tokens = at::empty({count, length}, at::kLong);
    batch.labels = at::empty({count, length}, at::kLong);
    auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
    auto* labels = batch.labels.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<int32_t> sample = tokens_of(index_of_position(first + i));
      std::copy(sample.begin(), sample.end() - 1, tokens + i * length);
      std::copy(sample.begin() + 1, sample.end(), labels + i * length);
      batch.sample_ids.push_back(first + i);
    }
    batch.valid_tokens = count * length;
    return batch;
  }

  DataOptions options_;
  std::vector<Section> sections_;
  SampleOrder order_;
  int64_t num_samples_;
};

}  // namespace

int64_t BatchShape::first_sample(int64_t step, int64_t accumulation_step) const {
  const int64_t first = (accumulation_step * world + rank) * micro_batch;
  if (step < 0 || accumulation_step < 0 || micro_batch < 1 || rank < 0 || rank >= world || global_batch % (micro_batch * world) != 0 ||
      first + micro_batch > global_batch)
    fail_protocol("micro-batch {} of step {} for rank {} of {}, micro-batch size {}, lies outside a global batch of {}", accumulation_step,
                  step, rank, world, micro_batch, global_batch);
  return first;
}

bool has_weights(const DataOptions& options) { return options.sources.size() > 1 && options.sources.front().weight > 0; }

std::vector<int64_t> sample_limits(const DataOptions& options) {
  if (!has_weights(options)) return {options.max_samples};
  double sum = 0;
  for (const DocumentSource& source : options.sources) sum += source.weight;
  std::vector<int64_t> out;
  for (const DocumentSource& source : options.sources)
    out.push_back(
        options.max_samples == 0 ? 0 : std::max<int64_t>(1, std::llround(source.weight / sum * static_cast<double>(options.max_samples))));
  return out;
}

std::unique_ptr<DataStream> DataStream::open(const DataOptions& given, const Tokenizer& tokenizer) {
  if (given.sources.empty()) fail_protocol("{}: a data stream of no source", given.key);
  if (given.spread && given.part != DataOptions::Part::All) fail_protocol("{}: a part of the samples, spread over all", given.key);
  if (given.sequence_length < 1 || given.max_samples < 0 || given.vocabulary_size < 1) {
    fail_protocol("{}: a data stream with sequence_length {}, max_samples {} and vocabulary_size {}", given.key, given.sequence_length,
                  given.max_samples, given.vocabulary_size);
  }
  DataOptions options = given;
  if (!options.warn) options.warn = [](const std::string& text) { print_err("warning: {}\n", text); };
  if (!options.remark) options.remark = options.warn;
  std::vector<Section> sections = open_sections(options, tokenizer);
  const std::vector<int64_t> limits = sample_limits(options);
  for (size_t i = 0; i < sections.size(); ++i) choose_samples(sections[i], options, limits.at(i));
  return std::make_unique<MappedDataStream>(std::move(options), std::move(sections));
}

}  // namespace zerostep
