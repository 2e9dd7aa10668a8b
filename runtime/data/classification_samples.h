#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/nth.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/data/cached_tokens.h"
#include "runtime/data/classification_stream.h"

namespace zerostep {

// Labelled texts as tokens, in the order of their sources and files: a small index in memory, the tokens in a mapped file a source.
class ClassificationSamples {
 public:
  // From the cache folder or made now. InputError also where a source has no row.
  ClassificationSamples(const ClassificationOptions& options, const Tokenizer& tokenizer);

  int64_t size() const { return std::ssize(entries_); }
  // The first sample of each source.
  const std::vector<int64_t>& firsts() const { return first_entries_; }
  int32_t num_tokens(int64_t index) const { return nth(entries_, index).num_tokens; }
  EncodedText text(int64_t index) const;
  // The name of a sample's label, as an index into names().
  int32_t name(int64_t index) const { return nth(entries_, index).name; }
  bool truncated(int64_t index) const { return nth(entries_, index).truncated; }
  // In the order in which they first occur; with the file and line where they do.
  const std::vector<std::string>& names() const { return names_; }
  const std::string& first_place(int32_t name) const { return nth(places_, name); }
  bool is_from_cache() const { return is_from_cache_; }
  int64_t num_left_out() const { return num_left_out_; }
  int64_t num_tokens() const { return total_; }
  uint32_t largest_token() const { return largest_; }

 private:
  struct Entry {
    int64_t begin;
    int32_t name, num_tokens, label_position;
    bool truncated;
  };
  void append(TokenFile file);
  int32_t index_of_name(std::string name, std::string place);

  std::vector<TokenFile> files_;
  std::vector<int64_t> first_entries_;  // of each file
  std::vector<std::string> names_, places_;
  std::vector<Entry> entries_;
  bool is_from_cache_ = true;
  int64_t num_left_out_ = 0, total_ = 0;
  uint32_t largest_ = 0;
};

}  // namespace zerostep
