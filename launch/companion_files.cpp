#include "launch/companion_files.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "launch/model_directory.h"
#include "models/json_file.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerConfig = "tokenizer_config.json";

void copy_over(const fs::path& from, const fs::path& to) {
  if (is_same_place(from, to)) return;
  std::error_code error;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error) fail_run("cannot copy {} to {}: {}", from.string(), to.string(), error.message());
}

// The class that transformers chooses for vocab.json by the type of the model.
std::string class_by_type(const std::string& model_type) {
  return model_type == "gpt2"      ? "GPT2Tokenizer"
         : model_type == "qwen2"   ? "Qwen2Tokenizer"
         : model_type == "roberta" ? "RobertaTokenizer"
                                   : "";
}

// Names the class of a vocabulary where transformers would choose another: tokenizer_config.json names none, and the model is of another
// type. `vocabulary`: the vocab.json that was copied.
void name_class(std::set<std::string>& names, const std::string& model_type, const std::string& vocabulary, const std::string& directory) {
  if (names.contains("tokenizer.json")) return;
  const bool words = names.contains("vocab.txt");
  if (words && (model_type == "bert" || model_type == "distilbert")) return;
  const std::string found = words ? "BertTokenizer" : byte_pair_class(vocabulary);
  if (found == class_by_type(model_type)) return;
  const fs::path path = fs::path(directory) / kTokenizerConfig;
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  if (names.contains(kTokenizerConfig)) config = read_json_object(path.string());
  if (config.contains("tokenizer_class")) return;
  config["tokenizer_class"] = found;
  std::ofstream out(path, std::ios::trunc);
  out << config.dump(2) << "\n";
  out.close();
  if (!out) fail_run("cannot write {}", path.string());
  names.insert(kTokenizerConfig);
}

}  // namespace

std::vector<std::string> copy_companions(const ModelOrigin& origin, const std::string& model_type, const std::string& directory) {
  constexpr const char* kGeneration = "generation_config.json";
  std::error_code missing;  // what cannot be looked at is not there
  if (!origin.directory.empty() && fs::exists(fs::path(origin.directory) / kGeneration, missing))
    copy_over(fs::path(origin.directory) / kGeneration, fs::path(directory) / kGeneration);
  std::set<std::string> names;
  if (origin.tokenizer != "byte") {
    std::string vocabulary;
    for (const TokenizerFile& file : tokenizer_files(origin.tokenizer)) {
      if (file.name == "vocab.json") vocabulary = file.path;
      copy_over(file.path, fs::path(directory) / file.name);
      names.insert(file.name);
    }
    if (names.empty())
      return {
          fmt::format("{} holds no tokenizer: there is none at '{}', where the run found it (a relative path counts from the current "
                      "folder); copy its files there",
                      directory, origin.tokenizer)};
    name_class(names, model_type, vocabulary, directory);
  }
  // A model that is saved where it came from leaves what lies there.
  if (!origin.directory.empty() && is_same_place(origin.directory, directory)) return {};
  for (const std::string& name : tokenizer_file_names())
    if (!names.contains(name)) fs::remove(fs::path(directory) / name, missing);
  return {};
}

}  // namespace zerostep
