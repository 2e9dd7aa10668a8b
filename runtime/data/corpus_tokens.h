#pragma once
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/data_stream.h"
#include "runtime/data/token_cache.h"

namespace zerostep {

struct CorpusTokens {
  CachedTokens content;
  bool from_cache;
};

// The tokens of .txt and .jsonl files, from the cache folder or made now. The cache is keyed by content, tokenizer and format; stamps of
// the files spare reading them again to know their content.
CorpusTokens tokens_of_text(const std::vector<std::string>& files, const DataOptions& options, const Tokenizer& tokenizer);

// The largest token of a .bin file; the cache folder remembers it by the file's stamp, so that a later start does not read the whole file.
uint32_t largest_token_of(const TokenFile& file, const DataOptions& options);

}  // namespace zerostep
