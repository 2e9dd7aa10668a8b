#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "experiments/fetch/fetched_record.h"
#include "experiments/fetch/hub_source.h"
#include "experiments/text/text_table.h"
#include "launch/commands/commands.h"
#include "runtime/config/catalogue.h"
#include "runtime/data/document_source.h"

namespace zerostep {
namespace {

using schema::Catalogue;

// The files of a data set that are here, and how many it has on its hub; 0: that is not known, since it was not fetched.
struct FilesHere {
  int64_t num_files = 0, all_files = 0;
  std::string commit;
};

FilesHere files_here(const Catalogue& catalogue, const Catalogue::Entry& entry) {
  FilesHere out;
  DocumentSource source;
  source.key = entry.name;
  source.paths = entry.source.at("files").get<std::vector<std::string>>();
  try {
    out.num_files = std::ssize(corpus_files(source));
    const FetchedRecord record(HubSource(catalogue, entry).folder());
    if (record.data_set()) {
      out.all_files = record.data_set()->num_files;
      out.commit = record.data_set()->commit;
    }
  } catch (const InputError&) {  // nothing is here, or it is of no hub
  }
  return out;
}

nlohmann::ordered_json told(const Catalogue& catalogue, const Catalogue::Entry& entry) {
  const FilesHere here = files_here(catalogue, entry);
  nlohmann::ordered_json out{{"name", entry.name}, {"description", entry.description}, {"size", entry.size}, {"here", here.num_files > 0}};
  if (here.num_files > 0) out["files_here"] = here.num_files;
  if (here.all_files > 0) out["fetched"] = {{"all_files", here.all_files}, {"commit", here.commit}};
  for (const auto& [key, value] : entry.source.items()) out[key] = value;
  if (!entry.fields.is_null()) out["fields"] = entry.fields;
  if (!entry.origin.is_null()) out["source"] = entry.origin;
  return out;
}

std::string here_text(const FilesHere& here) {
  if (here.num_files == 0) return "-";
  return here.num_files < here.all_files ? fmt::format("{} of {} files", grouped(here.num_files), grouped(here.all_files)) : "yes";
}

bool is_of_hub(const Catalogue::Entry& entry) { return entry.origin.is_object() && entry.origin.contains("hub"); }

}  // namespace

int list_data_sets(const DataListArguments& arguments) {
  const Catalogue catalogue = Catalogue::read(arguments.catalogue);
  if (arguments.json) {
    nlohmann::ordered_json out{{"catalogue", catalogue.file()}, {"data_sets", nlohmann::ordered_json::array()}};
    for (const Catalogue::Entry& entry : catalogue.entries()) out["data_sets"].push_back(told(catalogue, entry));
    print_out("{}\n", out.dump(1));
    return kDone;
  }
  TextTable table(TextTable::kAll);
  table.add({"name", "here", "size", "description"});
  for (const Catalogue::Entry& entry : catalogue.entries())
    table.add({entry.name, here_text(files_here(catalogue, entry)), entry.size, entry.description});
  print_out("{}", table.text());
  std::string text = fmt::format("{}: a configuration names one as \"data\": {{\"train\": \"NAME\"{}}}", catalogue.file(),
                                 arguments.catalogue.empty() ? "" : fmt::format(", \"catalogue\": \"{}\"", arguments.catalogue));
  const std::vector<Catalogue::Entry>& all = catalogue.entries();
  const auto of_hub = std::count_if(all.begin(), all.end(), [](const Catalogue::Entry& entry) { return is_of_hub(entry); });
  if (of_hub > 0)
    text += fmt::format("; `{} data fetch NAME{}` brings one{} here, below {}", program_name(),
                        arguments.catalogue.empty() ? "" : " --catalogue " + shell_word(arguments.catalogue),
                        of_hub < std::ssize(all) ? " that has a hub" : "", catalogue.folder());
  print_out("{}.\n", text);
  return kDone;
}

}  // namespace zerostep
