#include "runtime/data/corpus_tokens.h"

#include <algorithm>
#include <charconv>

#include "runtime/data/cache_folder.h"
#include "runtime/data/source_rules.h"

namespace zerostep {
namespace {

// To be raised when the same files and tokenizer would give other tokens.
constexpr uint64_t kTokensFormat = 2;

// What decides the tokens beside the files' content.
void add_rules(ContentHash& hash, const std::vector<std::string>& files, const DocumentSource& source, const Tokenizer& tokenizer) {
  hash.add(kTokensFormat).add(tokenizer.fingerprint()).add(files.size());
  for (const std::string& file : files) hash.add(static_cast<uint64_t>(corpus_kind(file, source.key)));
  add_file_rules(hash, source, files);
  const auto has_rows = [&](const std::string& file) { return corpus_kind(file, source.key) != CorpusKind::Text; };
  if (std::any_of(files.begin(), files.end(), has_rows)) add_text_rules(hash, source);
}

}  // namespace

CorpusTokens tokens_of_text(const std::vector<std::string>& files, const DocumentSource& source, const DataOptions& options,
                            const Tokenizer& tokenizer) {
  const auto make = [&](TokenCacheWriter& writer) {
    return tokenize_files(files, source, options, tokenizer, [&](std::span<const int32_t> tokens) { writer.append(tokens); });
  };
  CorpusTokens out = cached_tokens({.files = files,
                                    .key = source.key,
                                    .cache = options.cache,
                                    .vocabulary_size = tokenizer.vocabulary_size(),
                                    .add_rules = [&](ContentHash& hash) { add_rules(hash, files, source, tokenizer); },
                                    .make = make,
                                    .warn = options.warn,
                                    .before_reading = options.before_reading});
  if (out.is_from_cache)
    for (const std::string& sentence : out.content.remarks.sentences(files, source, TextTemplate(source))) options.remark(sentence);
  return out;
}

uint32_t largest_token_of(const TokenFile& file, const DataOptions& options) {
  if (options.cache.empty()) return file.largest_token();
  const CacheFolder folder(options.cache, options.warn);
  const int64_t looked_at_ns = nanoseconds_now();
  const FileStamp stamp = stamp_of(file.path());
  ContentHash hash;
  hash.add(kTokensFormat).add("largest token");
  add_stamp(hash, stamp);
  const std::string index = hash.hex();
  if (const auto known = folder.recall(index)) {
    uint32_t largest = 0;
    const auto [end, error] = std::from_chars(known->data(), known->data() + known->size(), largest);
    if (error == std::errc() && end == known->data() + known->size()) return largest;
  }
  const uint32_t largest = file.largest_token();
  folder.remember(index, {stamp}, looked_at_ns, std::to_string(largest));
  return largest;
}

}  // namespace zerostep
