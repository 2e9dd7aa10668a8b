#include "runtime/data/classification_stream.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <utility>

#include "base/console.h"
#include "base/content_hash.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/nth.h"
#include "runtime/data/classification_samples.h"
#include "runtime/data/length_buckets.h"
#include "runtime/data/padded_rows.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/spread_samples.h"

namespace zerostep {
namespace {

bool matches_all(const LabelNames& known, const std::vector<std::string>& found) {
  return std::all_of(found.begin(), found.end(), [&](const std::string& name) { return known.match(name) >= 0; });
}

// "'0' is 'NEGATIVE', '1' is 'POSITIVE'": how labels of the data stand for classes with other names.
std::string correspondence(const std::vector<std::string>& found, const LabelNames& labels, const std::vector<std::string>& classes) {
  std::vector<std::string> out;
  for (const std::string& label : found)
    out.push_back(fmt::format("'{}' is '{}'", label, classes.at(static_cast<size_t>(labels.index(label)))));
  return first_names(out);
}

// The classes of the first set that is opened: the model's where the labels are among their names, otherwise the data's in their order.
LabelNames first_labels(const ClassificationSamples& samples, const ClassificationOptions& options) {
  const std::vector<std::string>& found = samples.names();
  if (!options.class_names.empty() && matches_all(LabelNames(options.class_names), found)) return LabelNames(options.class_names);
  const LabelNames labels = LabelNames::found_in_data(found, options.num_labels, options.key);
  const LabelNames filled = options.prompt ? labels : labels.filled_up(options.num_labels);
  if (!options.class_names.empty() && filled.size() == std::ssize(options.class_names))
    options.remark(fmt::format(
        "{}: the labels of the data are not the names of the model's classes ({}): they are matched by their order, {}. Label the "
        "data with these names where another order is meant",
        options.key, fmt::join(options.class_names, ", "), correspondence(found, filled, options.class_names)));
  return filled;
}

LabelNames labels_of(const ClassificationSamples& samples, const ClassificationOptions& options) {
  const LabelNames labels = options.labels ? *options.labels : first_labels(samples, options);
  for (size_t i = 0; i < samples.names().size(); ++i) {
    const std::string& name = samples.names()[i];
    if (labels.index(name) >= 0) continue;
    if (const int64_t other = labels.match(name); other >= 0) {
      options.remark(fmt::format("{}: {}: the label '{}' is taken as '{}'", options.key, samples.first_place(static_cast<int32_t>(i)), name,
                                 labels.name(other)));
      continue;
    }
    fail_input("{}: {}: the label '{}' is none of the task's: {} (data.label_field names the column)", options.key,
               samples.first_place(static_cast<int32_t>(i)), name, fmt::join(labels.names(), ", "));
  }
  return labels;
}

// The samples that the stream has of each part that is mixed with others.
std::vector<SampleOrder::Part> parts_of(const ClassificationSamples& samples, const ClassificationOptions& options) {
  const std::vector<int64_t> limits = sample_limits(options);
  std::vector<int64_t> ends{samples.size()};
  if (limits.size() > 1) ends.insert(ends.begin(), samples.firsts().begin() + 1, samples.firsts().end());
  std::vector<SampleOrder::Part> out;
  for (size_t i = 0; i < limits.size(); ++i) {
    const int64_t size = ends[i] - (i == 0 ? 0 : ends[i - 1]);
    out.push_back({limits[i] > 0 ? std::min(limits[i], size) : size, limits.size() > 1 ? options.sources[i].weight : 1});
  }
  return out;
}

class MappedClassificationStream final : public ClassificationStream {
 public:
  MappedClassificationStream(ClassificationOptions options, ClassificationSamples samples, int32_t padding)
      : options_(std::move(options)),
        samples_(std::move(samples)),
        padding_(padding),
        order_(parts_of(samples_, options_), options_.shuffle, options_.seed),
        num_samples_(order_.size()),
        labels_(labels_of(samples_, options_)),
        buckets_(lengths(), order_, options_.seed) {
    for (const std::string& name : samples_.names()) label_of_name_.push_back(labels_.match(name));
    counts_.resize(static_cast<size_t>(labels_.size()));
    for (int64_t i = 0; i < num_samples_; ++i) {
      ++nth(counts_, label_of(i));
      num_truncated_ += samples_.truncated(row_of(i));
      num_sample_tokens_ += samples_.num_tokens(row_of(i));
    }
    if (options_.prompt && options_.prompt->words().num_classes() != labels_.size()) {
      fail_input("data.label_words names {} words for {} labels ({}); one for each is expected", options_.prompt->words().num_classes(),
                 labels_.size(), fmt::join(labels_.names(), ", "));
    }
  }

  int64_t num_samples() const override { return num_samples_; }
  int64_t num_tokens() const override { return samples_.num_tokens(); }
  int64_t num_sample_tokens() const override { return num_sample_tokens_; }
  bool is_from_cache() const override { return samples_.is_from_cache(); }
  int64_t num_left_out() const override { return samples_.num_left_out(); }
  bool is_weighted() const override { return has_weights(options_); }
  std::vector<SampleSource> sources() const override {
    std::vector<SampleSource> out;
    for (const DocumentSource& source : options_.sources) out.push_back({name_of(source), 0, 0});
    for (int64_t i = 0; i < num_samples_; ++i) ++nth(out, source_of(i)).num_samples;
    for (size_t i = 0; i < out.size(); ++i)
      out[i].share = is_weighted() ? order_.share(static_cast<int64_t>(i))
                                   : static_cast<double>(out[i].num_samples) / static_cast<double>(num_samples_);
    return out;
  }
  std::vector<int64_t> sources_of_batch(int64_t step, int64_t global_batch_size) const override {
    std::vector<int64_t> out;
    for (const int64_t index : global_batch(step, global_batch_size)) out.push_back(source_of(index));
    return out;
  }
  std::string fingerprint() const override {
    constexpr int64_t kSamples = 4096;
    ContentHash hash;
    for (int64_t i = 0; is_weighted() && i < order_.num_parts(); ++i) hash.add(fmt::format("{} {}", order_.share(i), order_.first_of(i)));
    hash.add(static_cast<uint64_t>(num_samples_))
        .add(static_cast<uint64_t>(options_.shuffle))
        .add(static_cast<uint64_t>(samples_.num_tokens()));
    for (const std::string& name : labels_.names()) hash.add(name);
    if (options_.prompt) hash.add(options_.prompt->identity());
    for (int64_t i = 0, count = std::min(kSamples, num_samples_); i < count; ++i) {
      const int64_t index = num_samples_ * i / count;
      const std::vector<int32_t> tokens = samples_.text(row_of(index)).tokens;
      hash.add(static_cast<uint64_t>(label_of(index)))
          .add(std::string_view(reinterpret_cast<const char*>(tokens.data()), 4 * tokens.size()));
    }
    return hash.hex();
  }
  int64_t tokens_of_batch(int64_t step, int64_t global_batch_size) const override {
    int64_t tokens = 0;
    for (int64_t index : global_batch(step, global_batch_size)) tokens += tokens_of_rows(index);
    return tokens;
  }
  const LabelNames& labels() const override { return labels_; }
  int64_t num_truncated() const override { return num_truncated_; }
  int64_t count(int64_t label) const override { return counts_.at(static_cast<size_t>(label)); }

  std::vector<int32_t> sample(int64_t position) const override { return samples_.text(row_of(order_.at(position))).tokens; }

  Batch batch(int64_t step, int64_t accumulation_step, const BatchShape& shape) const override {
    Batch batch = assemble(micro_batch(step, accumulation_step, shape));
    batch.global_valid_tokens = shape.global_batch;
    return batch;
  }
  Batch ordered(int64_t begin, int64_t end) const override { return assemble(in_file_order(begin, end)); }

 private:
  struct Chosen {
    int64_t index, id;
  };

  std::vector<int32_t> lengths() const {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < num_samples_; ++i) out.push_back(samples_.num_tokens(row_of(i)));
    return out;
  }

  int64_t tokens_of_rows(int64_t index) const {
    const int64_t tokens = samples_.num_tokens(row_of(index));
    if (!options_.prompt) return tokens;
    int64_t all = 0;
    const LabelWords& words = options_.prompt->words();
    for (int64_t row = 0; row < words.rows_per_sample(); ++row)
      all += tokens + std::ssize(nth(words.tokens, row)) - (options_.prompt->masked() ? 0 : 1);
    return all;
  }

  // Row of the tables that a sample is.
  int64_t row_of(int64_t index) const {
    if (options_.spread) return spread_sample(index, num_samples_, samples_.size());
    const int64_t part = order_.part_of(index);
    return (is_weighted() ? nth(samples_.firsts(), part) : 0) + index - order_.first_of(part);
  }
  int64_t source_of(int64_t index) const {
    const std::vector<int64_t>& firsts = samples_.firsts();
    return std::upper_bound(firsts.begin(), firsts.end(), row_of(index)) - firsts.begin() - 1;
  }
  int64_t label_of(int64_t index) const { return nth(label_of_name_, samples_.name(row_of(index))); }

  std::vector<int64_t> global_batch(int64_t step, int64_t size) const {
    if (options_.shuffle) return buckets_.batch(step, size);
    std::vector<int64_t> out;
    for (int64_t i = 0; i < size; ++i) out.push_back(order_.at(step * size + i));
    return out;
  }

  std::vector<Chosen> micro_batch(int64_t step, int64_t accumulation_step, const BatchShape& shape) const {
    const int64_t first = shape.first_sample(step, accumulation_step);
    const std::vector<int64_t> all = global_batch(step, shape.global_batch);
    std::vector<Chosen> out;
    for (int64_t i = first; i < first + shape.micro_batch; ++i) out.push_back({nth(all, i), step * shape.global_batch + i});
    return out;
  }

  std::vector<Chosen> in_file_order(int64_t begin, int64_t end) const {
    if (begin < 0 || begin >= end || end > num_samples_) fail_protocol("samples {} to {} of {} in file order", begin, end, num_samples_);
    std::vector<Chosen> out;
    for (int64_t i = begin; i < end; ++i) out.push_back({i, i});
    return out;
  }

  Batch assemble(const std::vector<Chosen>& chosen) const {
    std::vector<std::vector<int32_t>> rows;
    std::vector<int64_t> labels, words;
    Batch batch;
    for (const Chosen& sample : chosen) {
      const EncodedText text = samples_.text(row_of(sample.index));
      if (options_.prompt) {
        for (auto& row : options_.prompt->rows(text)) rows.push_back(std::move(row));
        words.push_back(options_.prompt->word_position(text));
      } else {
        rows.push_back(text.tokens);
      }
      labels.push_back(label_of(sample.index));
      batch.sample_ids.resize(rows.size(), sample.id);
    }
    PaddedRows padded = padded_rows(rows, padding_);
    batch.tokens = std::move(padded.tokens);
    batch.mask = std::move(padded.mask);
    batch.pads_ends = true;
    batch.labels = at::tensor(labels, at::kLong).unsqueeze(1);
    if (options_.prompt) batch.word_positions = at::tensor(words, at::kLong);
    batch.valid_tokens = batch.global_valid_tokens = std::ssize(chosen);
    return batch;
  }

  ClassificationOptions options_;
  ClassificationSamples samples_;
  int32_t padding_;
  SampleOrder order_;
  int64_t num_samples_;
  LabelNames labels_;
  LengthBuckets buckets_;
  std::vector<int64_t> label_of_name_, counts_;
  int64_t num_truncated_ = 0, num_sample_tokens_ = 0;
};

}  // namespace

std::unique_ptr<ClassificationStream> ClassificationStream::open(const ClassificationOptions& given, const Tokenizer& tokenizer) {
  if (given.sources.empty()) fail_protocol("{}: a classification stream of no source", given.key);
  if (given.sequence_length < 1 || given.max_samples < 0 || given.vocabulary_size < 1 || given.num_labels < 0) {
    fail_protocol("{}: a classification stream with sequence_length {}, max_samples {}, vocabulary_size {} and num_labels {}", given.key,
                  given.sequence_length, given.max_samples, given.vocabulary_size, given.num_labels);
  }
  ClassificationOptions options = given;
  if (!options.warn) options.warn = [](const std::string& text) { print_err("warning: {}\n", text); };
  if (!options.remark) options.remark = options.warn;
  ClassificationSamples samples(options, tokenizer);
  const int32_t padding = options.padding.value_or(tokenizer.padding());
  int64_t largest = std::max<int64_t>({samples.largest_token(), padding, tokenizer.mask().value_or(0)});
  if (options.prompt)
    for (const auto& word : options.prompt->words().tokens)
      largest = std::max<int64_t>(largest, *std::max_element(word.begin(), word.end()));
  if (largest >= options.vocabulary_size) {
    fail_input(
        "{}: the tokenizer gives token {} but the model's vocabulary is {}: name the tokenizer that belongs to the model (data.tokenizer), "
        "or set model.vocab_size to at least {} where the file gives the model's sizes",
        options.key, largest, options.vocabulary_size, tokenizer.vocabulary_size());
  }
  return std::make_unique<MappedClassificationStream>(std::move(options), std::move(samples), padding);
}

}  // namespace zerostep
