#pragma once
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/cached_tokens.h"
#include "runtime/data/data_stream.h"

namespace zerostep {

// The tokens of .txt and .jsonl files of one source, from the cache folder or made now. Each source has a cache file of its own, which
// serves every mixture that it is part of.
CorpusTokens tokens_of_text(const std::vector<std::string>& files, const DocumentSource& source, const DataOptions& options,
                            const Tokenizer& tokenizer);

// The largest token of a .bin file; the cache folder remembers it by the file's stamp, so that a later start does not read the whole file.
uint32_t largest_token_of(const TokenFile& file, const DataOptions& options);

}  // namespace zerostep
