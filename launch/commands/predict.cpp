#include <fmt/format.h>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/mapped_file.h"
#include "base/program_name.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/prediction_file.h"
#include "launch/prediction_pass.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/data/document_source.h"
#include "runtime/generate/text_classifier.h"

namespace zerostep {
namespace {

Device device_of(const std::string& name) {
  if (name != "cpu" && name != "cuda" && name != "auto") fail_input("--device is '{}'; expected cpu, cuda or auto", name);
  if (name == "cpu" || (name == "auto" && Device::num_gpus() == 0)) return Device::cpu();
  try {
    return Device::cuda(0);
  } catch (const RunError& error) {
    fail_input("--device {}: {}; `--device cpu` computes on the processor", name, error.what());
  }
}

// As id2label of config.json calls them.
std::vector<std::string> names_of_classes(const ModelDefinition& model) {
  std::vector<std::string> names = model.class_names();
  for (int64_t i = std::ssize(names); i < model.num_classes(); ++i) names.push_back(fmt::format("LABEL_{}", i));
  return names;
}

void check_classifier(const ModelDefinition& model, const std::string& directory) {
  if (model.num_classes() == 0)
    fail_input(
        "{}: holds a model that predicts tokens, not classes of texts: give a classifier, as `{} train` with model.task "
        "\"classification\" makes one",
        directory, program_name());
  if (model.num_classes() == 1)
    fail_input("{}: holds a model with one class, which predicts a number: classes of texts need two or more", directory);
}

}  // namespace

int predict(const PredictArguments& arguments) {
  set_threads(num_cores());
  const std::string directory = checkpoint_named_by(arguments.model);
  // That it is there is known before the model is read.
  const DocumentSource source{.key = "--input",
                              .paths = {arguments.input},
                              .text = arguments.text,
                              .text_field = arguments.text_field,
                              .ways = {.text = "--text", .text_field = "--text-field", .skips_missing = "", .split = ""}};
  const std::vector<std::string> inputs = table_files(source);
  for (const std::string& file : inputs) {
    if (is_same_place(file, arguments.output))
      fail_input("--output {}: is the input, which it would replace: give another name", arguments.output);
    MappedFile{file};
  }
  const SavedModel saved = open_model(directory);
  check_classifier(*saved.model, directory);
  for (const std::string& note : saved.notes) print_err("warning: {}\n", note);
  const auto tokenizer = arguments.tokenizer.empty()     ? tokenizer_of_model(directory, *saved.model)
                         : arguments.tokenizer == "byte" ? make_byte_tokenizer()
                                                         : load_tokenizer(arguments.tokenizer);
  const Device device = device_of(arguments.device);
  PredictionFile out(arguments.output, names_of_classes(*saved.model));
  const PlainModel model(*saved.model, saved.read, device);
  const TextClassifier classifier(model, *tokenizer, arguments.batch_size);
  PredictionPass prediction(classifier, arguments.batch_size, out);
  prediction.run(inputs, source);
  if (prediction.rows() == 0) fail_input("--input: {} holds no row", arguments.input);
  out.publish();
  print_out("{}: {} of {} in {}, {} rows/s on {}\n", arguments.output, counted(prediction.rows(), "row"), arguments.input,
            human_duration(prediction.seconds()), human_count(static_cast<double>(prediction.rows()) / prediction.seconds()),
            device.description());
  for (const std::string& remark : prediction.remarks()) print_err("warning: {}\n", remark);
  if (prediction.blank_lines() > 0)
    print_err("{} of {} {} no row, and {} has none for {}\n", counted(prediction.blank_lines(), "blank line"), arguments.input,
              prediction.blank_lines() == 1 ? "is" : "are", arguments.output, prediction.blank_lines() == 1 ? "it" : "them");
  if (classifier.num_truncated() > 0)
    print_err("{} longer than the {} tokens that the model sees: the rest of {} was not read\n",
              classifier.num_truncated() == 1 ? "1 text is" : fmt::format("{} texts are", grouped(classifier.num_truncated())),
              saved.model->max_sequence_length(), classifier.num_truncated() == 1 ? "it" : "each");
  return kDone;
}

}  // namespace zerostep
