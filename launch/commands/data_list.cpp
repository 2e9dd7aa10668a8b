#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "experiments/text/text_table.h"
#include "launch/commands/commands.h"
#include "runtime/config/catalogue.h"
#include "runtime/data/document_source.h"

namespace zerostep {
namespace {

using schema::Catalogue;

bool is_here(const Catalogue::Entry& entry) {
  DocumentSource source;
  source.key = entry.name;
  source.paths = entry.source.at("files").get<std::vector<std::string>>();
  try {
    return !corpus_files(source).empty();
  } catch (const InputError&) {
    return false;
  }
}

nlohmann::ordered_json told(const Catalogue::Entry& entry) {
  nlohmann::ordered_json out{{"name", entry.name}, {"description", entry.description}, {"size", entry.size}, {"here", is_here(entry)}};
  for (const auto& [key, value] : entry.source.items()) out[key] = value;
  if (!entry.fields.is_null()) out["fields"] = entry.fields;
  if (!entry.origin.is_null()) out["source"] = entry.origin;
  return out;
}

}  // namespace

int list_data_sets(const DataListArguments& arguments) {
  const Catalogue catalogue = Catalogue::read(arguments.catalogue);
  if (arguments.json) {
    nlohmann::ordered_json out{{"catalogue", catalogue.file()}, {"data_sets", nlohmann::ordered_json::array()}};
    for (const Catalogue::Entry& entry : catalogue.entries()) out["data_sets"].push_back(told(entry));
    print_out("{}\n", out.dump(1));
    return kDone;
  }
  TextTable table(TextTable::kAll);
  table.add({"name", "here", "size", "description"});
  for (const Catalogue::Entry& entry : catalogue.entries())
    table.add({entry.name, is_here(entry) ? "yes" : "-", entry.size, entry.description});
  print_out("{}", table.text());
  print_out("{}: a configuration names one as \"data\": {{\"train\": \"NAME\"}}; files that are here lie below the folder of this file.\n",
            catalogue.file());
  return kDone;
}

}  // namespace zerostep
