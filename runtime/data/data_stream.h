#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/unit.h"

namespace zerostep {

// The `data` block for one set of documents.
struct DataOptions {
  std::vector<std::string> paths;  // files or globs of .txt, .jsonl, .bin; order kept, a glob's matches sorted
  std::string key = "data.train";  // JSON path, for messages
  std::string text_field = "text";
  std::vector<std::string> join_fields;  // .jsonl: further fields, joined to the text with a newline
  int64_t sequence_length = 0;
  int64_t max_samples = 0;  // 0: all
  bool shuffle = true;
  uint64_t seed = 0;
  std::string cache;  // folder of token caches; "" = beside nothing: no cache
  int64_t vocabulary_size = 0;  // of the model: a token outside is an InputError naming file and token
};

// Where a rank's part of a global batch lies. Sample j of a batch belongs to accumulation step j / (micro * world) and rank (j / micro) % world.
struct BatchShape {
  int64_t global_batch, micro_batch;
  int rank, world;  // among the data-parallel ranks
};

// Documents as one memory-mapped token file cut into samples of sequence_length + 1 tokens (stride sequence_length), in a permutation per epoch.
// A pure function of (files, tokenizer, options, step): random access, nothing to save, the same for every world size.
class DataStream {
 public:
  // Tokenizes into the cache unless it is there (progress with ETA through the log when it takes long). Ranks of one host may call this at the same time.
  static std::unique_ptr<DataStream> open(const DataOptions& options, const Tokenizer& tokenizer);
  virtual ~DataStream() = default;
  virtual int64_t num_samples() const = 0;
  virtual int64_t num_tokens() const = 0;
  virtual bool from_cache() const = 0;
  // Sample of the shuffled stream: `position` counts on over epochs (epoch = position / num_samples()). sequence_length + 1 tokens.
  virtual std::vector<int32_t> sample(int64_t position) const = 0;
  // Micro-batch `accumulation_step` of global batch `step` for one rank.
  virtual Batch batch(int64_t step, int64_t accumulation_step, const BatchShape& shape) const = 0;
  // Samples [begin, end) in file order, unshuffled (evaluation).
  virtual Batch ordered(int64_t begin, int64_t end) const = 0;
};

}  // namespace zerostep
