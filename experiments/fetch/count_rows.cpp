#include "experiments/fetch/count_rows.h"

#include "base/error.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/row_reader.h"

namespace zerostep {

int64_t count_rows(const std::string& path) {
  constexpr const char* kKey = "data fetch";
  const CorpusKind kind = corpus_kind(path, kKey);
  if (kind == CorpusKind::Text) return 1;
  if (kind == CorpusKind::Tokens) fail_input("{}: '{}' holds tokens, of which --documents tells nothing", kKey, path);
  int64_t rows = 0;
  const auto reader = open_rows(path, {}, kKey);
  while (const auto batch = reader->next())
    while (batch->next()) ++rows;
  return rows;
}

}  // namespace zerostep
