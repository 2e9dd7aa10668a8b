#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/content_hash.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/token_cache.h"

namespace zerostep {

// What is made of files once and kept in the cache folder.
struct TokensRequest {
  const std::vector<std::string>& files;
  std::string key;                                        // JSON path, for messages
  std::string cache;                                      // folder; "": none, the tokens go to an unnamed temporary file
  int64_t vocabulary_size;                                // decides between 2 and 4 bytes a token
  std::function<void(ContentHash&)> add_rules;            // whatever decides the tokens beside the files' content
  std::function<TokenizeResult(TokenCacheWriter&)> make;  // appends the tokens
  std::function<void(const std::string&)> warn;
  std::function<void(int64_t)> before_reading = nullptr;  // as DataOptions; nullptr: nobody asks
};

struct CorpusTokens {
  CachedTokens content;
  bool is_from_cache;
};

// From the cache folder or made now. The cache is keyed by the files' content and the rules; stamps of the files spare reading them again
// to know their content. Ranks of one host may call this at the same time: one makes the tokens, the others wait.
CorpusTokens cached_tokens(const TokensRequest& request);

// Adds what a stamp tells to a hash.
void add_stamp(ContentHash& hash, const FileStamp& stamp);
int64_t nanoseconds_now();

}  // namespace zerostep
