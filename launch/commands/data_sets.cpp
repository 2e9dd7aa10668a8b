#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/console.h"
#include "base/error.h"
#include "experiments/datasets/check.h"
#include "experiments/datasets/merge.h"
#include "experiments/datasets/show.h"
#include "launch/commands/commands.h"
#include "launch/subject.h"
#include "runtime/config/catalogue.h"
#include "runtime/config/load_config.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using schema::Catalogue;

int threads_here() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

void warn(const std::string& text) { print_err("warning: {}\n", text); }

// Which fields of a row make its text, by options, and what these are called.
struct TextOptions {
  std::string text, text_field;  // "": not given
  std::string text_option = "--text", text_field_option = "--text-field";
  bool is_of_corpus = true;  // false: the corpus's options, borrowed for evaluation data, whose catalogue says it better
};

// Names of the catalogue, paths and globs as sources.
std::vector<DocumentSource> sources_of(const std::vector<std::string>& named, const DataSourceArguments& arguments,
                                       const TextOptions& text_options) {
  if (!arguments.missing.empty() && arguments.missing != "error" && arguments.missing != "skip")
    fail_input("--missing is '{}'; expected error or skip", arguments.missing);
  std::optional<Catalogue> catalogue;
  std::vector<DocumentSource> out;
  for (const std::string& text : named) {
    DocumentSource source;
    source.key = text;
    source.paths = {text};
    source.ways = {.text_field = text_options.text_field_option, .skips_missing = "--missing skip", .split = "--split"};
    if (!text_options.text_field.empty()) source.text_field = text_options.text_field;
    std::error_code error;
    const bool may_be_name = text.find_first_of("/*?[{") == std::string::npos && !fs::exists(text, error);
    if (may_be_name) {
      if (!catalogue) catalogue = Catalogue::read(arguments.catalogue);
      const Catalogue::Entry* entry = catalogue->find(text);
      if (entry == nullptr) fail_input("'{}' is neither a file here nor {}", text, catalogue->names_beside(text));
      source.name = entry->name;
      source.how_to_get = catalogue->how_to_get(*entry);
      source.paths = entry->source.at("files").get<std::vector<std::string>>();
      source.text = entry->source.value("text", "");
      source.split = entry->source.value("split", "");
      if (!source.split.empty() && arguments.split.empty()) source.ways.split = DocumentSource().ways.split;
      source.max_documents = entry->source.value("max_documents", int64_t{0});
      source.skips_missing = entry->source.value("missing", "error") == "skip";
    }
    if (!text_options.text_field.empty() && text_options.is_of_corpus) source.text.clear();
    if (!text_options.text.empty()) {
      source.text = text_options.text;
      source.ways.text = text_options.text_option;
    }
    if (!arguments.split.empty()) source.split = arguments.split;
    if (!arguments.missing.empty()) source.skips_missing = arguments.missing == "skip";
    out.push_back(std::move(source));
  }
  return out;
}

// Of evaluation data: its own options, or else those of the sources.
TextOptions against_text(const DataCheckArguments& arguments) {
  TextOptions out{arguments.against_text, arguments.against_text_field, "--against-text", "--against-text-field"};
  if (!out.text.empty() || !out.text_field.empty()) return out;
  out.text = arguments.text;
  out.text_field = arguments.text_field;
  out.is_of_corpus = false;
  if (!out.text.empty()) out.text_option = "--text (--against-text is that of evaluation data)";
  if (!out.text_field.empty()) out.text_field_option = "--text-field (--against-text-field is that of evaluation data)";
  return out;
}

// The tokenizer of a run's file, and what it is called; nothing where no file is given.
std::unique_ptr<Tokenizer> tokenizer_of_run(const std::string& file, std::string& name) {
  if (file.empty()) return nullptr;
  const LoadedConfig loaded = load_config({.file = file});
  name = loaded.config.data.tokenizer;
  return tokenizer_of(loaded.config);
}

}  // namespace

int show_data(const DataShowArguments& arguments) {
  ShowRequest request;
  request.sources = sources_of(arguments.sources, arguments, {arguments.text, arguments.text_field});
  const auto tokenizer = tokenizer_of_run(arguments.config, request.tokenizer_name);
  request.tokenizer = tokenizer.get();
  request.rows = arguments.rows;
  request.num_threads = threads_here();
  request.remark = warn;
  const nlohmann::ordered_json shown = show_documents(request);
  print_out("{}", arguments.json ? shown.dump(1) + "\n" : show_text(shown));
  return kDone;
}

int check_data(const DataCheckArguments& arguments) {
  CheckRequest request;
  request.sources = sources_of(arguments.sources, arguments, {arguments.text, arguments.text_field});
  request.against = sources_of(arguments.against, arguments, against_text(arguments));
  std::string name;
  const auto tokenizer = tokenizer_of_run(arguments.config, name);
  request.tokenizer = tokenizer.get();
  request.parts = arguments.parts;
  request.num_threads = threads_here();
  request.remark = warn;
  const nlohmann::ordered_json checked = check_documents(request);
  print_out("{}", arguments.json ? checked.dump(1) + "\n" : check_text(checked));
  return kDone;
}

int merge_data(const DataMergeArguments& arguments) {
  if (!arguments.out.ends_with(".parquet")) fail_input("data merge: '{}' is expected to end in .parquet", arguments.out);
  MergeRequest request;
  request.out = arguments.out;
  request.overwrites = arguments.overwrite;
  request.sources = sources_of(arguments.sources, arguments, {arguments.text, arguments.text_field});
  if (arguments.max_documents > 0)
    for (DocumentSource& source : request.sources) source.max_documents = arguments.max_documents;
  if (arguments.shuffle >= 0) request.shuffle = static_cast<uint64_t>(arguments.shuffle);
  request.num_threads = threads_here();
  request.remark = warn;
  const nlohmann::ordered_json told = merge_documents(request);
  print_out("{}", arguments.json ? told.dump(1) + "\n" : merge_text(told, arguments.out));
  return kDone;
}

}  // namespace zerostep
