#include "runtime/data/data_stream.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/console.h"
#include "base/content_hash.h"
#include "base/error.h"
#include "base/nth.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/spread_samples.h"
#include "runtime/data/stream_sections.h"

namespace zerostep {
namespace {

std::vector<SampleOrder::Part> parts_of(const std::vector<StreamSection>& sections) {
  std::vector<SampleOrder::Part> out;
  for (const StreamSection& section : sections) out.push_back({section.num_samples, section.weight});
  return out;
}

class MappedDataStream final : public DataStream {
 public:
  MappedDataStream(DataOptions options, std::vector<StreamSection> sections)
      : options_(std::move(options)),
        sections_(std::move(sections)),
        order_(parts_of(sections_), options_.shuffle, options_.seed),
        num_samples_(order_.size()) {}

  int64_t num_samples() const override { return num_samples_; }
  int64_t num_tokens() const override {
    return sum([](const StreamSection& section) { return section.tokens.num_tokens(); });
  }
  int64_t num_sample_tokens() const override { return num_samples_ * options_.sequence_length; }
  bool is_from_cache() const override {
    return std::all_of(sections_.begin(), sections_.end(), [](const StreamSection& section) { return section.is_from_cache; });
  }
  int64_t num_left_out() const override {
    return sum([](const StreamSection& section) { return section.num_left_out; });
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
      const StreamSection& section = nth(sections_, i);
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
    for (const StreamSection& section : sections_) total += number_of(section);
    return total;
  }

  std::string fingerprint_of(const StreamSection& section) const {
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
  int64_t place_of(const StreamSection& section, int64_t index) const {
    return options_.spread ? spread_sample(index, section.num_samples, section.corpus_samples) : section.first_sample + index;
  }
  // The first of the chosen samples that begins at a token or after it.
  int64_t first_at_token(const StreamSection& section, int64_t token) const {
    int64_t low = 0, high = section.num_samples;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      place_of(section, middle)* options_.sequence_length < token ? low = middle + 1 : high = middle;
    }
    return low;
  }

  std::vector<int32_t> tokens_of(int64_t index) const {
    const int64_t part = order_.part_of(index);
    const StreamSection& section = nth(sections_, part);
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
  std::vector<StreamSection> sections_;
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
  std::vector<StreamSection> sections = open_sections(options, tokenizer);
  return std::make_unique<MappedDataStream>(std::move(options), std::move(sections));
}

}  // namespace zerostep
