#include "experiments/datasets/show.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "experiments/datasets/documents.h"
#include "experiments/datasets/duplicates.h"
#include "experiments/datasets/length_sample.h"
#include "experiments/text/text_table.h"
#include "runtime/data/table_fields.h"

namespace zerostep {
namespace {

using Json = nlohmann::ordered_json;

// About so many bytes of text are tokenized, spread over the files.
constexpr int64_t kTokenizedBytes = int64_t{32} << 20;
constexpr size_t kShownCharacters = 240;

int64_t characters_of(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

bool is_nothing(FieldValue::Kind kind) { return kind == FieldValue::Kind::Missing || kind == FieldValue::Kind::Null; }

// The beginning of a text, whole characters.
std::string beginning(std::string_view text) {
  if (text.size() <= kShownCharacters) return std::string(text);
  size_t end = kShownCharacters;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

Json value_json(const FieldValue& value) {
  if (is_nothing(value.kind)) return nullptr;
  if (value.kind == FieldValue::Kind::Number || value.kind == FieldValue::Kind::Boolean)
    if (Json parsed = Json::parse(value.text.begin(), value.text.end(), nullptr, false); !parsed.is_discarded()) return parsed;
  return beginning(value.text);
}

// What a source without a template takes as its text: text_field, or the first field of texts where none is named and there is no "text".
void choose_text(DocumentSource& source, const std::vector<TableField>& fields) {
  const auto has = [&](const std::string& name) {
    return std::any_of(fields.begin(), fields.end(), [&](const TableField& field) { return field.name == name; });
  };
  const bool is_named = !source.text.empty() || source.text_field != DocumentSource().text_field;
  if (is_named || fields.empty() || has(source.text_field)) return;
  for (const TableField& field : fields)
    if (field.is_text) {
      source.text_field = field.name;
      return;
    }
}

// Rows without a text, of one kind of reason, and the first of them.
struct Textless {
  int64_t rows = 0;
  std::string place, why;

  void add(const Textless& later) {
    if (rows == 0)
      *this = later;
    else
      rows += later.rows;
  }
  Json json() const { return {{"rows", rows}, {"first", place}, {"why", why}}; }
};

struct Counts {
  int64_t rows = 0, left_out = 0, blank_lines = 0, empty = 0;
  Textless missing, other_type;
  std::vector<TableField> fields;
  LengthSample characters, tokens;
  DuplicateCounter duplicates;
  int64_t tokenized = 0;
};

// Of a batch, before its numbers are added to those of the batches before it.
struct BatchCounts {
  std::vector<int64_t> characters, tokens;
  std::vector<uint64_t> hashes;
  int64_t empty = 0;
  Textless missing, other_type;
  std::vector<TableField> fields;
};

void add(Counts& all, const BatchCounts& batch, const DocumentBatch& documents) {
  all.rows += documents.num_documents();
  all.left_out += documents.num_left_out();
  all.blank_lines += documents.num_blank_lines();
  all.empty += batch.empty;
  all.missing.add(batch.missing);
  all.other_type.add(batch.other_type);
  for (const TableField& field : batch.fields) add_field(all.fields, field);
  for (const int64_t length : batch.characters) all.characters.add(length);
  for (const int64_t length : batch.tokens) all.tokens.add(length);
  for (const uint64_t hash : batch.hashes) all.duplicates.add(hash);
}

}  // namespace

Json show_documents(const ShowRequest& request) {
  Json out{{"files", Json::array()}, {"bytes", 0}, {"text", ""}, {"fields", Json::array()}};
  Counts counts;
  Json first = Json::array();
  int64_t bytes = 0;
  std::vector<DocumentReader> readers;
  for (DocumentSource source : request.sources) {
    const std::vector<std::string> files = corpus_files(source);
    const std::vector<TableField> of_source = table_fields(files.front(), source.key);
    choose_text(source, of_source);
    for (const TableField& field : of_source) add_field(counts.fields, field);
    if (out["text"] == "") out["text"] = !source.text.empty() ? source.text : of_source.empty() ? "the whole file" : source.text_field;
    std::vector<std::string> names;
    for (const TableField& field : of_source) names.push_back(field.name);
    readers.emplace_back(source, names, true);
    for (const std::string& file : files) out["files"].push_back(file);
    bytes += readers.back().num_bytes();
  }
  out["bytes"] = bytes;
  // Every so many texts are tokenized.
  const uint64_t stride = static_cast<uint64_t>(std::max<int64_t>(1, bytes / kTokenizedBytes));
  for (size_t r = 0; r < readers.size(); ++r) {
    const std::vector<TableField> of_source = table_fields(readers[r].files().front(), request.sources[r].key);
    readers[r].for_each(request.num_threads, [&](DocumentBatch& documents) -> DocumentReader::Take {
      auto batch = std::make_shared<BatchCounts>();
      auto shown = std::make_shared<Json>(Json::array());
      std::vector<int32_t> tokens;
      while (documents.next()) {
        const std::string_view text = documents.text();
        documents.add_fields(batch->fields);
        if (documents.obstacle()) {
          (is_nothing(documents.obstacle()->kind) ? batch->missing : batch->other_type)
              .add({1, documents.place(), documents.obstacle_text()});
        } else {
          const uint64_t hash = XXH3_64bits(text.data(), text.size());
          batch->characters.push_back(characters_of(text));
          if (is_blank(text)) {
            ++batch->empty;
          } else {
            batch->hashes.push_back(hash);
          }
          if (request.tokenizer != nullptr && (stride == 1 || (hash >> 32) % stride == 0)) {
            tokens.clear();
            request.tokenizer->encode(text, tokens);
            batch->tokens.push_back(std::ssize(tokens));
          }
        }
        if (std::ssize(*shown) >= request.rows) continue;
        Json row = Json::object();
        for (size_t f = 0; f < of_source.size(); ++f) row[of_source[f].name] = value_json(documents.field(f));
        if (of_source.empty()) row["text"] = beginning(text);
        shown->push_back(std::move(row));
      }
      return [&, batch, shown, documents = &documents] {
        add(counts, *batch, *documents);
        for (Json& row : *shown)
          if (std::ssize(first) < request.rows) first.push_back(std::move(row));
      };
    });
    readers[r].tell_remarks(request.remark);
  }
  for (const TableField& field : without_hollow_objects(counts.fields))
    out["fields"].push_back({{"name", field.name}, {"type", field.type}});
  const int64_t texts = counts.rows - counts.missing.rows - counts.other_type.rows;
  out["rows"] = counts.rows;
  out["left_out"] = counts.left_out;
  out["blank_lines"] = counts.blank_lines;
  out["missing"] = counts.missing.json();
  out["other_type"] = counts.other_type.json();
  out["empty_rows"] = counts.empty;
  out["duplicate_rows"] = counts.duplicates.duplicates();
  if (!counts.duplicates.is_exact()) out["duplicates_are_estimated"] = true;
  out["characters"] = counts.characters.json();
  if (request.tokenizer != nullptr) {
    Json tokens = counts.tokens.json();
    tokens["tokenizer"] = request.tokenizer_name;
    if (counts.tokens.count() < texts && counts.tokens.count() > 0) {
      tokens["total"] =
          std::llround(static_cast<double>(counts.tokens.sum()) * static_cast<double>(texts) / static_cast<double>(counts.tokens.count()));
      tokens["tokenized_rows"] = counts.tokens.count();
    }
    out["tokens"] = std::move(tokens);
  }
  out["first"] = std::move(first);
  return out;
}

std::string show_text(const Json& shown) {
  std::string out;
  const auto line = [&](const char* what, const std::string& value) { out += fmt::format("{:<15}{}\n", what, value); };
  const auto number = [](const Json& value) { return grouped(value.get<int64_t>()); };
  const size_t files = shown["files"].size();
  line("files", fmt::format("{}{}, {}", shown["files"][0].get<std::string>(), files > 1 ? fmt::format(" and {} more", files - 1) : "",
                            human_bytes(shown["bytes"].get<int64_t>())));
  std::string rows = number(shown["rows"]);
  if (shown["left_out"] > 0) rows += fmt::format(", {} left out, without a field", number(shown["left_out"]));
  if (shown["blank_lines"] > 0) rows += fmt::format(" beside {}", counted(shown["blank_lines"].get<int64_t>(), "blank line"));
  line("rows", rows);
  for (const auto& [what, key] : {std::pair("missing", "missing"), {"other type", "other_type"}})
    if (const Json& textless = shown[key]; textless["rows"] > 0)
      line(what, fmt::format("{}, the first at {}: {}", number(textless["rows"]), textless["first"].get<std::string>(),
                             textless["why"].get<std::string>()));
  line("empty", number(shown["empty_rows"]));
  line("duplicates", number(shown["duplicate_rows"]) + (shown.contains("duplicates_are_estimated") ? " (estimated)" : ""));
  line("text", shown["text"].get<std::string>());
  TextTable table(1);
  std::vector<std::string> head{"length of"};
  for (const auto& [name, value] : shown["characters"].items()) head.push_back(name);
  table.add(head);
  for (const char* unit : {"characters", "tokens"}) {
    if (!shown.contains(unit) || shown[unit].empty()) continue;
    std::vector<std::string> row{unit};
    for (size_t i = 1; i < head.size(); ++i)
      row.push_back(head[i] == "mean" ? fmt::format("{:.1f}", shown[unit][head[i]].get<double>()) : number(shown[unit][head[i]]));
    table.add(row);
  }
  if (!shown["characters"].empty()) out += table.text();
  if (shown.contains("tokens"))
    line("tokenizer", shown["tokens"]["tokenizer"].get<std::string>() +
                          (shown["tokens"].contains("tokenized_rows")
                               ? fmt::format(", over {} of the rows: the total is estimated", number(shown["tokens"]["tokenized_rows"]))
                               : ""));
  for (const Json& field : shown["fields"]) line("field", field["name"].get<std::string>() + "  " + field["type"].get<std::string>());
  int64_t count = 0;
  for (const Json& row : shown["first"]) {
    out += fmt::format("\nrow {}\n", ++count);
    for (const auto& [name, value] : row.items())
      out += fmt::format("  {}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return out;
}

}  // namespace zerostep
