#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/program_name.h"
#include "launch/commands/commands.h"
#include "launch/machine.h"
#include "launch/model_files.h"
#include "models/json_file.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/generate/generator.h"

namespace zerostep {
namespace {

void say(const std::string& text) { print_err("warning: {}\n", text); }

// The prompt as training by prompts and transformers encode it: behind what the tokenizer puts first.
std::vector<int32_t> tokens_of_prompt(const std::string& prompt, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens = tokenizer.prefix();
  const auto first = static_cast<ptrdiff_t>(tokens.size());
  tokenizer.encode(prompt, tokens);
  if (first > 0 && std::ssize(tokens) >= 2 * first && std::equal(tokens.begin(), tokens.begin() + first, tokens.begin() + first))
    say(fmt::format("the prompt begins with {}, which the tokenizer puts first by itself: it stands there twice, as in transformers",
                    tokenizer.decode(tokenizer.prefix())));
  return tokens;
}

// The text of a token behind another: WordPiece parts its words by a space.
std::string text_of(const Tokenizer& tokenizer, int32_t before, int32_t token) {
  if (before < 0 || !tokenizer.has_text(before)) return tokenizer.decode({token});
  return tokenizer.decode({before, token}).substr(tokenizer.decode({before}).size());
}

// How transformers would choose tokens with this directory, where it says so: here the command line does.
void say_unused_generation_config(const std::string& directory) {
  const std::filesystem::path path = std::filesystem::path(directory) / "generation_config.json";
  if (directory.empty() || !std::filesystem::exists(path)) return;
  const nlohmann::json config = read_json_object(path.string());
  std::string unused;
  for (const char* key : {"temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size", "num_beams"})
    if (const auto found = config.find(key); found != config.end() && !found->is_null())
      unused += fmt::format("{}{} {}", unused.empty() ? "" : ", ", key, found->dump());
  if (!unused.empty()) say(fmt::format("{}: {}: not used, --temperature and --top-k say how tokens are chosen", path.string(), unused));
}

}  // namespace

int generate(const GenerateArguments& arguments) {
  set_threads(num_cores());
  const std::string model = checkpoint_named_by(arguments.model);
  const SavedModel saved = open_model(model);
  if (!saved.model->predicts_next_token())
    fail_input("{}: holds a model that predicts no next token, so it writes no text: `{} eval` says what it predicts", model,
               program_name());
  for (const std::string& note : saved.notes) say(note);
  say_unused_generation_config(saved.origin.directory);
  const auto tokenizer = arguments.tokenizer.empty()     ? tokenizer_of_model(model, *saved.model)
                         : arguments.tokenizer == "byte" ? make_byte_tokenizer()
                                                         : load_tokenizer(arguments.tokenizer);
  const std::vector<int32_t> tokens = tokens_of_prompt(arguments.prompt, *tokenizer);
  for (int32_t token : tokens)
    if (token >= saved.model->vocabulary_size())
      fail_input(
          "the prompt has token {}, and the model in {} has a vocabulary of {}: this is another tokenizer than the model was trained with; "
          "name its own with --tokenizer",
          token, model, saved.model->vocabulary_size());
  const int64_t longest = saved.model->max_sequence_length();
  if (std::ssize(tokens) > longest)
    say(fmt::format("the prompt has {} tokens, and the model sees {}: the first {} are not seen", tokens.size(), longest,
                    std::ssize(tokens) - longest));
  Generator generator(*saved.model, saved.read);
  GenerateOptions options{.tokens = arguments.tokens,
                          .temperature = arguments.temperature,
                          .top_k = arguments.top_k,
                          .seed = arguments.seed,
                          .has_text = [&](int32_t token) { return tokenizer->has_text(token); }};
  if (!arguments.ignore_end) {
    options.ends = end_tokens_of_model(saved.origin.directory);
    options.ends.push_back(tokenizer->end_of_document());
  }
  if (!arguments.only_new) print_out(arguments.prompt);
  int32_t before = tokens.empty() ? -1 : tokens.back();
  generator.run(tokens, tokenizer->end_of_document(), options, [&](int32_t token) {
    print_out(text_of(*tokenizer, before, token));
    flush_out();
    before = token;
  });
  print_out("\n");
  return kDone;
}

}  // namespace zerostep
