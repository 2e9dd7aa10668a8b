#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/data_stream.h"
#include "runtime/data/token_file.h"

namespace zerostep {

// Token files end to end.
class TokenSequence {
 public:
  void append(TokenFile file);
  int64_t num_tokens() const { return num_tokens_; }
  void read(int64_t begin, int64_t count, int32_t* out) const;
  // Of the file that holds a token.
  const std::string& path_of(int64_t token) const;

 private:
  std::vector<TokenFile> files_;
  std::vector<int64_t> begins_;
  int64_t num_tokens_ = 0;
};

// Sources that are cut into samples together: all of them, or one of those that have weights.
struct StreamSection {
  TokenSequence tokens;
  std::string key, name;               // for messages
  std::vector<std::string> names;      // of the sources
  std::vector<int64_t> source_begins;  // the first token of each source
  double weight = 1;
  int64_t num_left_out = 0;
  bool is_from_cache = true;
  int64_t corpus_samples = 0, first_sample = 0, num_samples = 0;  // that it makes; of these the ones that are chosen
};

// The sections of a stream, whose files are tokenized unless the cache has their tokens, and which of their samples are the stream's.
// Errors as DataStream::open(); `options` have functions for all that they say.
std::vector<StreamSection> open_sections(const DataOptions& options, const Tokenizer& tokenizer);

}  // namespace zerostep
