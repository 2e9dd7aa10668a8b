#include "launch/model_commands.h"

#include <limits>

#include "base/error.h"
#include "launch/command_options.h"

namespace zerostep {
namespace {

DType exported_type(const std::string& name) {
  for (DType type : {DType::F32, DType::BF16, DType::F16})
    if (name == name_of(type)) return type;
  fail_input("--dtype is '{}'; expected fp32, bf16 or fp16", name);
}

// Of a command that writes a model.
void add_model_directory(CLI::App* sub, std::string& directory, bool& overwrite, const char* about) {
  sub->add_option("HF_DIR", directory, about)->required();
  sub->add_flag("--overwrite", overwrite, "write over a model or tokenizer files in HF_DIR, which is refused otherwise");
}

}  // namespace

ModelCommands::ModelCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run) : job_(job), run_(std::move(run)) {
  add_init(app);
  add_eval(app);
  add_generate(app);
  add_predict(app);
  add_inspect(app);
  add_export(app);
  add_rebuild(app);
}

void ModelCommands::run_on_one_rank(CLI::App* sub, std::function<int()> command) {
  sub->callback([this, command = std::move(command)] { run_([this, command] { return job_.speaks() ? command() : kDone; }); });
}

void ModelCommands::add_init(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("init", "writes the untrained model that `train FILE` would start from, as a Hugging Face directory");
  add_file(sub, init_);
  add_model_directory(sub, init_.directory, init_.overwrite, "the directory to write: config.json, model.safetensors, tokenizer files");
  sub->footer("\nExample: zerostep init run.json untrained/");
  run_on_one_rank(sub, [this] { return init(init_); });
}

void ModelCommands::add_eval(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("eval", "loss and perplexity on data.eval; under mpirun shared by the ranks");
  add_file(sub, eval_);
  sub->add_option("--checkpoint,--model", eval_.model,
                  "the weights, a checkpoint or a Hugging Face directory; the model that training starts from where it is missing")
      ->type_name("CHECKPOINT|HF_DIR");
  add_device(sub, eval_);
  sub->add_flag("--json", eval_.json, "{\"loss\", \"perplexity\"}");
  sub->footer("\nExample: zerostep eval run.json --checkpoint model/ --json");
  sub->callback([this] { run_([this] { return eval(job_, eval_); }); });
}

void ModelCommands::add_generate(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("generate", "text from a saved model");
  sub->add_option("--model,--checkpoint", generate_.model, "a checkpoint or a Hugging Face directory")
      ->required()
      ->type_name("CHECKPOINT|HF_DIR");
  sub->add_option("--prompt", generate_.prompt, "the text to continue; empty: a new document")->type_name("TEXT");
  add_count(sub, "--tokens", generate_.tokens, "at most so many tokens");
  sub->add_option("--temperature", generate_.temperature, "below 1 likelier, above 1 more varied text; 0 always takes the likeliest token")
      ->check(number(0.0, 1e6))
      ->capture_default_str();
  add_count(sub, "--top-k", generate_.top_k, "sample among the K likeliest tokens; 0: all");
  add_count(sub, "--seed", generate_.seed, "the same seed gives the same text", 0, std::numeric_limits<int64_t>::max());
  sub->add_option("--tokenizer", generate_.tokenizer, "'byte' or tokenizer files, where the directory of the model has none")
      ->type_name("PATH");
  sub->add_flag("--ignore-end", generate_.ignore_end, "go on after an end-of-document token");
  sub->add_flag("--only-new", generate_.only_new, "do not print the prompt");
  sub->footer("\nExample: zerostep generate --model model/ --prompt 'namespace ' --tokens 200 --temperature 0.8 --top-k 40 --seed 1");
  run_on_one_rank(sub, [this] { return generate(generate_); });
}

void ModelCommands::add_predict(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("predict", "the classes of texts by a trained classifier, with their probabilities");
  sub->add_option("--model,--checkpoint", predict_.model, "the classifier, a checkpoint or a Hugging Face directory")
      ->required()
      ->type_name("CHECKPOINT|HF_DIR");
  sub->add_option("--input", predict_.input, "the table of texts, of a kind that data.train takes; labels in it are not looked at")
      ->required()
      ->type_name("FILE");
  sub->add_option(
         "--output", predict_.output,
         "the table to write, a .tsv, .csv or .jsonl: a row for each row of the input, in its order (a blank line of a .tsv or .csv of "
         "one column is an empty text; other blank lines are no rows, and counted)")
      ->required()
      ->type_name("FILE");
  CLI::Option* field =
      sub->add_option("--text-field", predict_.text_field, "the column or field that holds the text; digits are a column's position from 0")
          ->type_name("NAME")
          ->capture_default_str();
  sub->add_option("--text", predict_.text,
                  "the text of a row as a template of its columns or fields, as a source's \"text\" in training: 'Review: {sentence}'")
      ->type_name("TEMPLATE")
      ->excludes(field);
  add_count(sub, "--batch-size", predict_.batch_size, "texts that are computed together", 1, 1 << 20);
  sub->add_option("--device", predict_.device, "cpu, cuda or auto (a GPU where one answers)")
      ->type_name("cpu|cuda|auto")
      ->capture_default_str();
  sub->add_option("--tokenizer", predict_.tokenizer, "'byte' or tokenizer files, where the directory of the model has none")
      ->type_name("PATH");
  sub->footer(
      "\nColumns: label, probability (the label's), margin (by how much it leads the next one), probability_NAME of each class.\n"
      "Texts longer than the model sees are cut, and counted. --output appears complete or not at all, and replaces predictions alone.\n"
      "A classifier that was trained with a template (\"text\" of a source) is to be given the same template by --text.\n"
      "Examples: zerostep predict --model model/ --input reviews.jsonl --output classes.tsv --text-field review\n"
      "          zerostep predict --model model/ --input sst2.parquet --output classes.tsv --text 'Review: {sentence}'");
  run_on_one_rank(sub, [this] { return predict(predict_); });
}

void ModelCommands::add_rebuild(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("rebuild", "the weights of a forward-only run from its base weights and its log of scalars");
  sub->add_option("--base", rebuild_.base, "the weights the run began with (`zerostep init`), a Hugging Face directory")
      ->required()
      ->type_name("HF_DIR");
  sub->add_option("--log", rebuild_.log, "zo_log.jsonl in the run's folder, beside its config.json")->required()->type_name("ZO_LOG");
  add_model_directory(sub, rebuild_.directory, rebuild_.overwrite, "the directory to write");
  sub->footer("\nExample: zerostep init run.json base/ && zerostep rebuild --base base/ --log runs/first/zo_log.jsonl rebuilt/");
  run_on_one_rank(sub, [this] { return rebuild(rebuild_); });
}

void ModelCommands::add_inspect(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("inspect", "batches, model or noise of a configuration, as JSON; a checkpoint, presets");
  sub->require_subcommand(1);
  sub->footer(
      "\nExample: zerostep inspect batches run.json --steps 2\n         zerostep inspect checkpoint "
      "runs/first/checkpoints/step_00001000");
  CLI::App* batches =
      sub->add_subcommand("batches", "JSON lines {step, samples, labels, sources}: the global batches that `train` sees, steps from 0");
  add_file(batches, batches_);
  add_count(batches, "--steps", batches_.steps, "how many");
  add_count(batches, "--first", batches_.first_step, "from this step on");
  add_count(batches, "--world", batches_.world, "ranks, where the file gives only the micro-batch of one", 1, kMostRanks);
  batches->footer(
      "\nA sample of a language model has one token more than its length (data.sequence_length): the tokens from the second on are\n"
      "the labels of those before them. A classifier's samples are texts without their padding.");
  run_on_one_rank(batches, [this] { return inspect_batches(batches_); });
  CLI::App* model = sub->add_subcommand("model", "units and parameters with shapes and first global element, and the number of elements");
  add_file(model, model_);
  run_on_one_rank(model, [this] { return inspect_model(model_); });
  CLI::App* checkpoint = sub->add_subcommand("checkpoint", "a checkpoint's manifest in words, every checksum verified");
  checkpoint->add_option("DIR", checkpoint_, "the checkpoint: runs/NAME/checkpoints/step_..., or .../latest, which stands for the newest")
      ->required();
  run_on_one_rank(checkpoint, [this] { return inspect_checkpoint(checkpoint_); });
  CLI::App* noise = sub->add_subcommand("noise", "JSON array: elements of a direction z of a forward-only step");
  add_file(noise, noise_);
  add_count(noise, "--step", noise_.step, "of the run, from 0");
  add_count(noise, "--direction", noise_.direction, "of the step, from 0");
  add_count(noise, "--begin", noise_.begin, "first global element (`inspect model` says where parameters begin)");
  add_count(noise, "--count", noise_.count, "how many");
  run_on_one_rank(noise, [this] { return inspect_noise(noise_); });
  CLI::App* presets = sub->add_subcommand("presets", "the models that model.preset names, with their sizes and numbers of parameters");
  presets->add_flag("--json", presets_json_, "one array of objects");
  run_on_one_rank(presets, [this] { return inspect_presets(presets_json_); });
}

void ModelCommands::add_export(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("export", "a checkpoint as a Hugging Face directory");
  sub->add_option("CHECKPOINT", export_.checkpoint,
                  "the checkpoint: runs/NAME/checkpoints/step_..., or .../latest, which stands for the newest")
      ->required();
  add_model_directory(sub, export_.directory, export_.overwrite, "the directory to write: config.json, model.safetensors, tokenizer files");
  sub->add_option_function<std::string>(
         "--dtype", [this](const std::string& name) { export_.type = exported_type(name); },
         "the type of the values: fp32 as they were trained, or bf16 or fp16, rounded to nearest, in half the bytes")
      ->type_name("fp32|bf16|fp16")
      ->default_str("fp32");
  sub->footer(
      "\nExample: zerostep export runs/first/checkpoints/step_00001000 model/\n"
      "         zerostep export runs/first/checkpoints/latest model/ --dtype bf16");
  run_on_one_rank(sub, [this] { return export_checkpoint(export_); });
}

}  // namespace zerostep
