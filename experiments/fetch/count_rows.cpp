#include "experiments/fetch/count_rows.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/error.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_stream.h"

namespace zerostep {
namespace {

constexpr const char* kKey = "data fetch";

int64_t count_lines(const std::string& path) {
  TextStream stream(path, kKey);
  int64_t lines = 0;
  bool is_blank = true;  // the line so far
  for (;;) {
    const std::string_view text = stream.look(size_t{1} << 20);
    for (const char c : text) {
      if (c == '\n') {
        lines += !is_blank;
        is_blank = true;
      } else if (is_blank && std::isspace(static_cast<unsigned char>(c)) == 0) {
        is_blank = false;
      }
    }
    if (stream.is_all()) return lines + !is_blank;
    stream.take(text.size());
  }
}

}  // namespace

int64_t count_rows(const std::string& path) {
  switch (corpus_kind(path, kKey)) {
    case CorpusKind::Text:
      return 1;
    case CorpusKind::JsonLines:
      return count_lines(path);
    case CorpusKind::Tokens:
      fail_input("{}: '{}' holds tokens, of which --documents tells nothing", kKey, path);
    default:
      break;
  }
  int64_t rows = 0;
  const auto reader = open_rows(path, {}, kKey);
  while (const auto batch = reader->next())
    while (batch->next()) ++rows;
  return rows;
}

}  // namespace zerostep
