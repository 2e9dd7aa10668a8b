#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/batch.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/data/document_source.h"

namespace zerostep {

// How far the tokenizing of a corpus has come.
struct TokenizeProgress {
  int64_t bytes_done = 0, bytes_total = 0;  // of the files
  int64_t tokens = 0;
  double seconds = 0;  // since tokenizing began
  double bytes_per_second = 0, eta_seconds = 0;
};

// The `data` block for one set of documents.
struct DataOptions {
  std::vector<DocumentSource> sources;  // with weights they are mixed in exact shares, without their documents follow each other
  std::string key = "data.train";       // JSON path of the whole, for messages
  int64_t sequence_length = 0;
  int64_t max_samples = 0;  // 0: all; otherwise so many, the first in file order, with weights of each source its share
  bool spread = false;      // max_samples are spread evenly over all instead
  enum class Part : uint8_t { All, First, Rest } part = Part::All;  // of these samples, with weights of those of each source
  double first_share = 0.5;                                         // of the samples, those of Part::First
  bool shuffle = true;
  uint64_t seed = 0;
  std::string cache;            // folder of token caches; "" = none: tokens go to an unnamed temporary file
  int64_t vocabulary_size = 0;  // of the model: a token outside is an InputError naming file and token
  int num_threads = 0;          // for tokenizing, 0: one a core; the tokens do not depend on it
  // Called by the thread and process that tokenizes, about twice a second and at the end, once it has taken half a second.
  std::function<void(const TokenizeProgress&)> progress;
  // Called with the bytes of files whose tokens are not known to be in the cache, before they are read; what it throws is thrown on.
  std::function<void(int64_t num_bytes)> before_reading;
  // Takes one line: a damaged cache that is rebuilt, an index that cannot be written. Default: stderr.
  std::function<void(const std::string&)> warn;
  // Takes a line about what the texts hold, which every rank has to say alike. Default: as `warn`.
  std::function<void(const std::string&)> remark;
};

// Whether the sources are mixed by weights.
bool has_weights(const DataOptions& options);
// max_samples of each part that is cut into samples for itself: all sources together, or each of those with weights its share.
std::vector<int64_t> sample_limits(const DataOptions& options);

// Where a rank's part of a global batch lies. Sample j of a batch belongs to accumulation step j / (micro * world) and rank (j / micro) %
// world.
struct BatchShape {
  int64_t global_batch, micro_batch;
  int rank, world;  // among the data-parallel ranks
  // Of micro-batch `accumulation_step` of global batch `step`: its first sample in the batch. ProtocolError where it lies outside.
  int64_t first_sample(int64_t step, int64_t accumulation_step) const;
};

// What a stream has of one of its sources.
struct SampleSource {
  std::string name;  // of its files where it has none
  double share = 1;  // of the samples of the stream
  int64_t num_samples = 0;
};

// Documents as one memory-mapped token file cut into samples of sequence_length + 1 tokens (stride sequence_length), in a permutation per
// epoch. A pure function of (files, tokenizer, options, step): random access, nothing to save, the same for every world size. Each document
// (a .txt file, a .jsonl line) is followed by the end-of-document token; a .bin file is taken as it is; the last partial sample is dropped.
// Sources with weights are cut into samples each for itself and mixed (SampleOrder).
// Global batch b is samples [b B, (b + 1) B) of the epochs one after the other: a batch may begin in one epoch and end in the next.
class DataStream {
 public:
  // Tokenizes into the cache unless it is there. Ranks of one host may call this at the same time: one tokenizes, the others wait.
  // InputError: what corpus_files says, a malformed file, no text, fewer tokens than one sample, a token outside the vocabulary, a cache
  // folder that cannot be written. RunError: a full disk, a file that changes while it is read.
  static std::unique_ptr<DataStream> open(const DataOptions& options, const Tokenizer& tokenizer);
  virtual ~DataStream() = default;
  virtual int64_t num_samples() const = 0;  // of an epoch
  virtual int64_t num_tokens() const = 0;   // of the whole corpus, whatever max_samples
  // Of the samples, each once: what they predict, or (classification) read.
  virtual int64_t num_sample_tokens() const = 0;
  virtual bool is_from_cache() const = 0;    // nothing had to be tokenized
  virtual int64_t num_left_out() const = 0;  // rows that lack a field (data.missing "skip")
  // Of what the samples are made of: their number, and the tokens (of a long corpus 4,096 runs of them, or samples). 32 hexadecimal digits.
  virtual std::string fingerprint() const = 0;
  virtual bool is_weighted() const = 0;  // the sources are mixed by weights
  virtual std::vector<SampleSource> sources() const = 0;
  // Of each sample of a global batch, the index of its source; of one that goes over from one source to the next, that of its first token.
  virtual std::vector<int64_t> sources_of_batch(int64_t step, int64_t global_batch) const = 0;
  // Tokens of the samples of a global batch, without padding.
  virtual int64_t tokens_of_batch(int64_t step, int64_t global_batch) const = 0;
  // Sample of the shuffled stream: `position` counts on over epochs (epoch = position / num_samples()). sequence_length + 1 tokens.
  virtual std::vector<int32_t> sample(int64_t position) const = 0;
  // Micro-batch `accumulation_step` of global batch `step` for one rank. sample_ids are positions in the shuffled stream.
  virtual Batch batch(int64_t step, int64_t accumulation_step, const BatchShape& shape) const = 0;
  // Samples [begin, end) of those chosen, in file order, unshuffled (evaluation). sample_ids are begin, begin + 1, ...; global_valid_tokens
  // are those of this batch.
  virtual Batch ordered(int64_t begin, int64_t end) const = 0;
};

}  // namespace zerostep
