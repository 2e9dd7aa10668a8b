#include "experiments/datasets/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "experiments/datasets/documents.h"
#include "experiments/datasets/homogeneity.h"
#include "experiments/datasets/row_blocks.h"
#include "experiments/datasets/text_windows.h"
#include "experiments/text/text_table.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSourceField = "source";  // as data merge writes it
// A field with more values says something else than where a row is from.
constexpr size_t kMostNames = 1000;

// The first bits of a hash of a word, or token, in which each byte, or value, is one step.
class KindHash {
 public:
  void add(uint64_t value) { hash_ = (hash_ + value + 1) * 0x9E3779B97F4A7C15ULL; }
  uint16_t take() { return static_cast<uint16_t>(std::exchange(hash_, 0) >> 52); }

 private:
  uint64_t hash_ = 0;
};

void append_words(std::string_view text, std::vector<uint16_t>& out) {
  KindHash hash;
  bool is_inside = false;
  for (const char c : text) {
    const bool is_blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!is_blank) hash.add(static_cast<unsigned char>(c));
    if (is_blank && is_inside) out.push_back(hash.take());
    is_inside = !is_blank;
  }
  if (is_inside) out.push_back(hash.take());
}

void append_tokens(const std::vector<int32_t>& tokens, std::vector<uint16_t>& out) {
  KindHash hash;
  for (const int32_t token : tokens) {
    hash.add(static_cast<uint32_t>(token));
    out.push_back(hash.take());
  }
}

// What a batch tells of its rows.
struct BatchRows {
  std::vector<std::string> names;  // of the field "source", each once
  std::vector<int32_t> sources;    // of each row: one of the names; -1: it has no such field
  std::vector<uint16_t> kinds;
  std::vector<size_t> kind_ends;  // of each row
  int64_t overlapping_documents = 0, overlapping_windows = 0;
};

// Where each row is from.
class RowSources {
 public:
  int32_t index_of(const std::string& name) {
    const auto [found, is_new] = indices_.emplace(name, static_cast<int32_t>(names_.size()));
    if (is_new) names_.push_back(name);
    return found->second;
  }
  void add_row(int32_t source) { rows_.push_back(source); }
  const std::vector<std::string>& names() const { return names_; }
  // [part][source]
  std::vector<std::vector<int64_t>> counts(int64_t parts) const {
    std::vector<std::vector<int64_t>> out(static_cast<size_t>(parts), std::vector<int64_t>(names_.size()));
    for (size_t row = 0; row < rows_.size(); ++row) ++nth(nth(out, static_cast<int64_t>(row) * parts / std::ssize(rows_)), rows_[row]);
    return out;
  }

 private:
  std::map<std::string, int32_t> indices_;
  std::vector<std::string> names_;
  std::vector<int32_t> rows_;
};

// Fewer rows in a part are no share, and the statistic is no chi-square: a cell is expected to have five at least (Cochran).
constexpr int64_t kFewestExpected = 5;

// The test over as many of the parts as have rows enough, of the sources that have enough for two parts; null: there are no two of them.
Json shares_test(const RowSources& sources, const std::vector<int64_t>& rows_of, int64_t parts) {
  std::vector<size_t> compared;
  int64_t fewest = parts * kFewestExpected;
  for (size_t i = 0; i < rows_of.size(); ++i) {
    if (rows_of[i] < 2 * kFewestExpected) continue;
    compared.push_back(i);
    fewest = std::min(fewest, rows_of[i]);
  }
  if (compared.size() < 2) return nullptr;
  const int64_t parts_compared = fewest / kFewestExpected;
  std::vector<std::vector<int64_t>> counts;
  for (const std::vector<int64_t>& part : sources.counts(parts_compared)) {
    counts.emplace_back();
    for (const size_t i : compared) counts.back().push_back(part[i]);
  }
  const std::optional<ChiSquare> test = chi_square(counts);
  if (!test) return nullptr;
  return {
      {"statistic", test->statistic}, {"degrees", test->degrees}, {"p", test->p}, {"parts", parts_compared}, {"sources", compared.size()}};
}

TextWindows windows_of(const CheckRequest& request, int64_t& left_out) {
  TextWindows windows;
  for (const DocumentSource& source : request.against) {
    DocumentReader reader(source);
    reader.for_each(1, [&](DocumentBatch& documents) -> DocumentReader::Take {
      while (documents.next()) windows.add(documents.text());
      left_out += documents.num_left_out();
      return [] {};
    });
    reader.tell_remarks(request.remark);
  }
  return windows;
}

BatchRows read_batch(DocumentBatch& documents, const CheckRequest& request, const TextWindows& windows) {
  BatchRows out;
  std::vector<int32_t> tokens;
  while (documents.next()) {
    const std::string_view text = documents.text();
    const FieldValue source = documents.field(0);
    const bool is_named = source.kind == FieldValue::Kind::Text && !source.text.empty();
    const auto found = std::find(out.names.begin(), out.names.end(), source.text);
    out.sources.push_back(is_named ? static_cast<int32_t>(found - out.names.begin()) : -1);
    if (is_named && found == out.names.end()) out.names.emplace_back(source.text);
    if (request.tokenizer == nullptr) {
      append_words(text, out.kinds);
    } else {
      tokens.clear();
      request.tokenizer->encode(text, tokens);
      append_tokens(tokens, out.kinds);
    }
    out.kind_ends.push_back(out.kinds.size());
    if (windows.size() == 0) continue;
    const int64_t overlaps = windows.count_in(text);
    out.overlapping_windows += overlaps;
    out.overlapping_documents += overlaps > 0;
  }
  return out;
}

// Of each part, how far its words are from those of all other parts.
std::vector<double> divergences(const std::vector<std::vector<uint32_t>>& parts) {
  std::vector<uint32_t> all(RowBlocks::kKinds);
  for (const auto& part : parts) std::transform(all.begin(), all.end(), part.begin(), all.begin(), std::plus<>());
  std::vector<double> out;
  for (const auto& part : parts) {
    std::vector<uint32_t> others(all.size());
    std::transform(all.begin(), all.end(), part.begin(), others.begin(), std::minus<>());
    out.push_back(divergence_in_bits(part, others));
  }
  return out;
}

double mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

Json check_documents(const CheckRequest& request) {
  int64_t texts_left_out = 0;
  const TextWindows windows = windows_of(request, texts_left_out);
  RowSources by_field, by_file;
  bool all_named = true;
  RowBlocks blocks;
  int64_t left_out = 0, overlapping_documents = 0, overlapping_windows = 0;
  for (const DocumentSource& source : request.sources) {
    const int32_t file = by_file.index_of(name_of(source));
    DocumentReader reader(source, {kSourceField});
    reader.for_each(request.num_threads, [&](DocumentBatch& documents) -> DocumentReader::Take {
      auto batch = std::make_shared<BatchRows>(read_batch(documents, request, windows));
      return [&, file, batch, of_batch = documents.num_left_out()] {
        left_out += of_batch;
        std::vector<int32_t> indices;
        for (const std::string& name : batch->names)
          if (by_field.names().size() <= kMostNames) indices.push_back(by_field.index_of(name));
        size_t begin = 0;
        for (size_t row = 0; row < batch->sources.size(); ++row) {
          by_file.add_row(file);
          const auto named = static_cast<size_t>(batch->sources[row]);
          all_named = all_named && batch->sources[row] >= 0 && named < indices.size();
          if (all_named) by_field.add_row(indices[named]);
          blocks.add_row(std::span(batch->kinds).subspan(begin, batch->kind_ends[row] - begin));
          begin = batch->kind_ends[row];
        }
        overlapping_documents += batch->overlapping_documents;
        overlapping_windows += batch->overlapping_windows;
      };
    });
    reader.tell_remarks(request.remark);
  }
  const int64_t rows = blocks.num_rows();
  if (rows == 0) fail_input("{}: there is no document", request.sources.front().key);
  const int64_t parts = std::min(request.parts, rows);
  const RowSources& sources = all_named && by_field.names().size() <= kMostNames ? by_field : by_file;
  const std::vector<std::vector<int64_t>> counts = sources.counts(parts);
  Json out{{"rows", rows}, {"left_out", left_out}, {"parts", parts}, {"sources", Json::array()}};
  std::vector<int64_t> rows_of;
  for (size_t i = 0; i < sources.names().size(); ++i) {
    int64_t& of_source = rows_of.emplace_back(0);
    Json shares = Json::array();
    for (const std::vector<int64_t>& part : counts) {
      of_source += part[i];
      shares.push_back(static_cast<double>(part[i]) /
                       static_cast<double>(std::max<int64_t>(1, std::accumulate(part.begin(), part.end(), int64_t{0}))));
    }
    out["sources"].push_back({{"name", sources.names()[i]},
                              {"rows", of_source},
                              {"share", static_cast<double>(of_source) / static_cast<double>(rows)},
                              {"share_of_parts", std::move(shares)}});
  }
  out["chi_square"] = shares_test(sources, rows_of, parts);
  const std::vector<double> bits = divergences(blocks.parts(parts));
  out["divergence"] = {{"of", request.tokenizer == nullptr ? "words" : "tokens"},
                       {"bits", bits},
                       {"mean", mean(bits)},
                       {"max", *std::max_element(bits.begin(), bits.end())},
                       {"mean_if_shuffled", mean(divergences(blocks.shuffled_parts(parts, 1)))}};
  if (!request.against.empty())
    out["overlap"] = {{"texts", windows.num_texts()},
                      {"left_out", texts_left_out},
                      {"too_short_texts", windows.num_too_short()},
                      {"windows", windows.size()},
                      {"overlapping_documents", overlapping_documents},
                      {"overlapping_windows", overlapping_windows}};
  return out;
}

std::string check_text(const Json& checked) {
  const auto number = [](const Json& value) { return grouped(value.get<int64_t>()); };
  const auto without = [](const Json& of) {
    const auto rows = of["left_out"].get<int64_t>();
    return rows == 0 ? "" : fmt::format("; {} row{} left out, without a field", grouped(rows), rows == 1 ? "" : "s");
  };
  std::string out = fmt::format("{} rows in {} parts, in order{}\n", number(checked["rows"]), number(checked["parts"]), without(checked));
  TextTable table(1);
  table.add({"source", "rows", "share", "least in a part", "most in a part"});
  for (const Json& source : checked["sources"]) {
    const auto shares = source["share_of_parts"].get<std::vector<double>>();
    table.add({source["name"].get<std::string>(), number(source["rows"]), fmt::format("{:.4f}", source["share"].get<double>()),
               fmt::format("{:.4f}", *std::min_element(shares.begin(), shares.end())),
               fmt::format("{:.4f}", *std::max_element(shares.begin(), shares.end()))});
  }
  out += table.text();
  const Json& test = checked["chi_square"];
  if (test.is_null() && checked["sources"].size() < 2) {
    out += "There is one source, so that no shares can be compared.\n";
  } else if (test.is_null()) {
    out += fmt::format("shares: there are too few rows to tell: two sources with {} rows or more are needed\n", 2 * kFewestExpected);
  } else {
    const double p = test["p"].get<double>();
    const std::string where =
        test["parts"] == checked["parts"]
            ? ""
            : fmt::format(" in {} parts, in which {} rows of each source or more are expected", number(test["parts"]), kFewestExpected);
    out += fmt::format("shares: chi-square {:.1f} with {} degrees of freedom{}, p = {:.3g}: {}\n", test["statistic"].get<double>(),
                       number(test["degrees"]), where, p,
                       p < 1e-6   ? "the sources are not mixed evenly"
                       : p < 1e-3 ? "an even mixture would look so less than once in a thousand times"
                                  : "as of an even mixture");
    if (const int64_t too_small = std::ssize(checked["sources"]) - test["sources"].get<int64_t>(); too_small > 0)
      out += fmt::format("{} {} fewer than {} rows, too few to compare\n", counted(too_small, "source"), too_small == 1 ? "has" : "have",
                         2 * kFewestExpected);
  }
  const Json& divergence = checked["divergence"];
  out += fmt::format("{}: the parts differ from the others by {:.5f} bits in the mean, {:.5f} at most; shuffled they would by {:.5f}\n",
                     divergence["of"].get<std::string>(), divergence["mean"].get<double>(), divergence["max"].get<double>(),
                     divergence["mean_if_shuffled"].get<double>());
  if (!checked.contains("overlap")) return out;
  const Json& overlap = checked["overlap"];
  if (overlap["windows"] == 0) {
    out += fmt::format("overlap: none of the {} evaluation texts has {} bytes, the shortest that are looked for{}\n",
                       number(overlap["texts"]), TextWindows::kFewest, without(overlap));
    return out;
  }
  out += fmt::format("overlap: {} of the documents share {} places with the {} windows of the evaluation data{}\n",
                     number(overlap["overlapping_documents"]), number(overlap["overlapping_windows"]), number(overlap["windows"]),
                     without(overlap));
  if (overlap["too_short_texts"] > 0)
    out += fmt::format("{} of {} evaluation texts {} too short to look for, below {} bytes\n", number(overlap["too_short_texts"]),
                       number(overlap["texts"]), overlap["too_short_texts"] == 1 ? "is" : "are", TextWindows::kFewest);
  return out;
}

}  // namespace zerostep
