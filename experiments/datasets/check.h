#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/document_source.h"

namespace zerostep {

struct CheckRequest {
  std::vector<DocumentSource> sources;  // one after the other, as they would be trained on without weights
  std::vector<DocumentSource> against;  // evaluation data whose texts are looked for
  int64_t parts = 20;
  const Tokenizer* tokenizer = nullptr;  // nullptr: words are counted, else tokens
  int num_threads = 1;
  std::function<void(const std::string&)> remark = nullptr;  // takes what is to be said of the texts, a sentence a call
};

// Whether the documents of some sources are mixed, in bounded memory: they are cut into parts of as many rows each, in order, and
// - each source's share of each part is compared with its share of the whole: the chi-square test, over fewer parts where the rarest source
//   would have less than 5 rows in each, and without sources of less than 10 rows. The source of a row is its field "source", as
//   `data merge` writes it, or else the source or file that it is of;
// - the words (or tokens) of each part are compared with those of the others: their divergence, beside that of parts of the same blocks of
//   rows in a random order;
// - documents are searched for windows of 128 bytes of the evaluation data.
// {"rows", "left_out", "parts", "sources" [{"name", "rows", "share", "share_of_parts"}], "chi_square" {"statistic", "degrees", "p", "parts"
// and "sources" that were compared} or null where there are no two sources to compare, "divergence" {"of", "bits" of each part, "mean",
// "max", "mean_if_shuffled"}, "overlap" {"texts" that are looked for, "left_out", "too_short_texts" of them that are not, "windows",
// "overlapping_documents", "overlapping_windows"} with `against`}. InputError as DocumentReader's.
nlohmann::ordered_json check_documents(const CheckRequest& request);
// The same for people.
std::string check_text(const nlohmann::ordered_json& checked);

}  // namespace zerostep
