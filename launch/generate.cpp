#include <fmt/format.h>

#include <cstdio>

#include "base/error.h"
#include "launch/commands.h"
#include "launch/machine.h"
#include "launch/model_files.h"
#include "runtime/generate/generator.h"

namespace zerostep {

int generate(const GenerateArguments& arguments) {
  set_threads(num_cores());
  const SavedModel saved = open_model(arguments.model);
  if (!saved.model->predicts_next_token())
    fail_input("{}: holds a model that predicts no next token, so it writes no text: `zerostep eval` says what it predicts",
               arguments.model);
  const auto tokenizer = arguments.tokenizer.empty()     ? tokenizer_of_model(arguments.model, *saved.model)
                         : arguments.tokenizer == "byte" ? make_byte_tokenizer()
                                                         : load_tokenizer(arguments.tokenizer);
  std::vector<int32_t> tokens;
  tokenizer->encode(arguments.prompt, tokens);
  for (int32_t token : tokens)
    if (token >= saved.model->vocabulary_size())
      fail_input(
          "the prompt has token {}, and the model in {} has a vocabulary of {}: this is another tokenizer than the model was trained with; "
          "name its "
          "with --tokenizer",
          token, arguments.model, saved.model->vocabulary_size());
  Generator generator(*saved.model, saved.read);
  const GenerateOptions options{arguments.tokens, arguments.temperature, arguments.top_k, arguments.seed,
                                arguments.ignore_end ? -1 : tokenizer->end_of_document()};
  if (!arguments.only_new) fmt::print("{}", arguments.prompt);
  generator.run(tokens, tokenizer->end_of_document(), options, [&](int32_t token) {
    const std::string text = tokenizer->decode({token});
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  fmt::print("\n");
  return kDone;
}

}  // namespace zerostep
