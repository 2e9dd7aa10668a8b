#include "launch/data_commands.h"

#include <limits>

#include "launch/command_options.h"

namespace zerostep {
namespace {

void add_sources(CLI::App* sub, DataSourceArguments& arguments) {
  sub->add_option("SOURCE", arguments.sources,
                  "names of the catalogue, paths and globs: .txt, .jsonl (also .gz and .zst), .parquet, .arrow, folders of save_to_disk")
      ->required()
      ->type_name("NAME|FILES");
  CLI::Option* text = sub->add_option("--text", arguments.text, "the text of a row as a template: '{question} {answer}[[ ({place})]]'")
                          ->type_name("TEMPLATE");
  sub->add_option("--text-field", arguments.text_field, "the field that holds the text; text where it is missing")
      ->type_name("FIELD")
      ->excludes(text);
  sub->add_option(
         "--missing", arguments.missing,
         "of rows without a field of the text, or with null there: skip leaves them out and counts them, error does not go on; what "
         "the catalogue says, or error, where it is missing")
      ->type_name("error|skip");
  sub->add_option("--split", arguments.split, "of a folder with several splits: which one")->type_name("SPLIT");
  sub->add_option("--catalogue", arguments.catalogue, "the file of data sets; the program's own where it is missing")
      ->type_name("DATASETS.json");
}

void add_run(CLI::App* sub, std::string& config) {
  sub->add_option("--config", config, "a run's file, whose tokenizer counts tokens")->type_name("FILE");
}

}  // namespace

DataCommands::DataCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run) : job_(job), run_(std::move(run)) {
  CLI::App* data = app.add_subcommand(
      "data", "data sets: those of the catalogue, brought from a hub, what is in one, several merged, how they are mixed");
  data->require_subcommand(1);
  data->footer("\nExample: zerostep data show corpus.parquet --rows 2");
  add_list(data);
  add_show(data);
  add_merge(data);
  add_check(data);
  add_fetch(data);
}

void DataCommands::run_on_one_rank(CLI::App* sub, std::function<int()> command) {
  sub->callback([this, command = std::move(command)] { run_([this, command] { return job_.speaks() ? command() : kDone; }); });
}

void DataCommands::add_list(CLI::App* data) {
  CLI::App* sub = data->add_subcommand("list", "the data sets that data.train and its like may name, and which of them are here");
  sub->add_option("--catalogue", list_.catalogue, "the file of data sets; the program's own where it is missing")
      ->type_name("DATASETS.json");
  sub->add_flag("--json", list_.json, "everything that the catalogue says, by name");
  sub->footer("\nExample: zerostep data list --json");
  run_on_one_rank(sub, [this] { return list_data_sets(list_); });
}

void DataCommands::add_show(CLI::App* data) {
  CLI::App* sub = data->add_subcommand("show", "rows, fields and types, lengths, empty and duplicate rows, and the first rows");
  add_sources(sub, show_);
  add_count(sub, "--rows", show_.rows, "rows that are shown", 0, 1000);
  add_run(sub, show_.config);
  sub->add_flag("--json", show_.json, "everything as one object");
  sub->footer("\nExample: zerostep data show corpus.parquet --rows 2 --config run.json");
  run_on_one_rank(sub, [this] { return show_data(show_); });
}

void DataCommands::add_merge(CLI::App* data) {
  CLI::App* sub = data->add_subcommand("merge", "writes the documents of several sources into one file, each once, and reads it back");
  sub->add_option("OUT", merge_.out, "the .parquet file to write, with columns text and source; OUT.json beside it has the shares")
      ->required()
      ->type_name("OUT.parquet");
  add_sources(sub, merge_);
  sub->add_option("--shuffle", merge_.shuffle, "in a random order that follows from this seed; source after source where it is missing")
      ->transform(number<int64_t>(0, std::numeric_limits<int64_t>::max()))
      ->type_name("SEED");
  sub->add_option("--max-documents", merge_.max_documents,
                  "of each source only the first so many; what the catalogue says, or all, where it is missing")
      ->transform(number<int64_t>(1, int64_t{1} << 40))
      ->type_name("N");
  sub->add_flag("--overwrite", merge_.overwrite, "write over files that are there");
  sub->add_flag("--json", merge_.json, "what OUT.json holds");
  sub->footer("\nExample: zerostep data merge both.parquet dclm pubmedqa --shuffle 1");
  run_on_one_rank(sub, [this] { return merge_data(merge_); });
}

void DataCommands::add_check(CLI::App* data) {
  CLI::App* sub = data->add_subcommand(
      "check", "whether sources are mixed evenly from one part of the rows to the next, and what evaluation data they hold");
  add_sources(sub, check_);
  add_count(sub, "--parts", check_.parts, "parts of as many rows each", 2, 100000);
  sub->add_option("--against", check_.against, "evaluation data whose texts are looked for; several times for several")
      ->type_name("NAME|FILES")
      ->allow_extra_args(false);
  CLI::Option* text =
      sub->add_option("--against-text", check_.against_text,
                      "the text of a row of the evaluation data as a template; where neither this nor --against-text-field is "
                      "given, that of the sources")
          ->type_name("TEMPLATE");
  sub->add_option("--against-text-field", check_.against_text_field, "the field that holds the text of the evaluation data")
      ->type_name("FIELD")
      ->excludes(text);
  add_run(sub, check_.config);
  sub->add_flag("--json", check_.json, "everything as one object");
  sub->footer(
      "\nExamples: zerostep data check both.parquet --parts 20 --against held_out.jsonl\n"
      "          zerostep data check both.parquet --against sst2.parquet --against-text-field sentence");
  run_on_one_rank(sub, [this] { return check_data(check_); });
}

void DataCommands::add_fetch(CLI::App* data) {
  CLI::App* sub =
      data->add_subcommand("fetch", "brings a data set of the catalogue from its hub to where data.train and its like then find it");
  sub->add_option("NAME", fetch_.name, "a data set of the catalogue (`data list`)")->required()->type_name("");
  sub->add_option("--documents", fetch_.documents,
                  "only the first files, until they have so many rows; whole files are kept, so that more rows may come "
                  "(\"max_documents\" of a source takes no more); everything where it is missing")
      ->transform(number<int64_t>(1, int64_t{1} << 40))
      ->type_name("N");
  sub->add_option("--catalogue", fetch_.catalogue, "the file of data sets; the program's own where it is missing")
      ->type_name("DATASETS.json");
  sub->add_flag("--json", fetch_.json, "what is here as one object");
  sub->footer(
      "\nWhat is here and whole is not fetched again; what was broken off goes on where it ended, by the same command. Each file is "
      "checked\n"
      "against the checksum that the hub lists. Files lie below $XDG_CACHE_HOME/zerostep, where that is not set ~/.cache/zerostep; those "
      "of\n"
      "another catalogue below its folder.\n"
      "HF_ENDPOINT names another hub than https://huggingface.co, or a mirror of it. A token is that of HF_TOKEN, or what `hf auth login`\n"
      "leaves; it goes to that hub alone. Proxies are those of https_proxy and its like.\n"
      "\nExamples: zerostep data fetch pubmedqa\n"
      "          zerostep data fetch fineweb-edu-10bt --documents 100000\n"
      "          HF_TOKEN=hf_... zerostep data fetch mine --catalogue /data/datasets.json");
  run_on_one_rank(sub, [this] { return fetch_data(fetch_); });
}

}  // namespace zerostep
