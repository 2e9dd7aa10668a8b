// The keys of a source, an object in a list of sources.
#include <deque>
#include <string>

#include "runtime/config/schema.h"

namespace zerostep::schema {

void add_source_keys(std::vector<Key>& keys) {
  static std::deque<std::string> paths;  // keys view them
  for (const std::string_view list : {"data.train", "data.bp_train", "data.eval", "data.test"}) {
    const auto path = [&](std::string_view name) -> std::string_view {
      return paths.emplace_back(std::string(list) + "[]." + std::string(name));
    };
    const bool trains = list.ends_with("train"), tests = list == "data.test";
    const Key of_source[] = {
        {path("files"), H, file_names(), "",
         "files or globs, as a source without an object has them; a name without files is one of the catalogue"},
        {path("name"), H, text(), "",
         trains  ? "what the source is called in the log and by inspect batches; without files a name of the catalogue"
         : tests ? "makes the source a set of its own, whose results stand in the log and in test.json, under sets.NAME where there are "
                   "several; without files a name of the catalogue"
                 : "makes the source a set of its own, with a column eval_loss.NAME where there are several; without files a name of the "
                   "catalogue"},
        {path("split"), H, text(), "", "of a folder with several splits (dataset_dict.json): which one"},
        {path("text"), H, text(), "",
         "the text of a row: {field}, nested ones as {a.b}; a part in [[ ]] goes where a field in it is empty or missing; text_field and "
         "join_fields where it is missing"},
        {path("weight"), trains ? H : R, number_above(0), "",
         trains ? "share of the samples in the proportion of the weights, which all sources have or none; without, the sources follow each "
                  "other"
                : "every sample is evaluated once: leave it out"},
        {path("max_documents"), H, integer(0), "", "use only the first so many documents or rows; 0 uses all"},
        {path("missing"), H, choice("error|skip"), "", "data.missing for this source"}};
    keys.insert(keys.end(), std::begin(of_source), std::end(of_source));
  }
}

}  // namespace zerostep::schema
