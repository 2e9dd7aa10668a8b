#include "models/architecture_names.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

std::string with_head(std::string_view family, std::string_view head) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kClasses = {
      {{"gpt2", "GPT2"}, {"llama", "Llama"}, {"qwen2", "Qwen2"}, {"bert", "Bert"}, {"roberta", "Roberta"}, {"distilbert", "DistilBert"}}};
  for (const auto& [type, name] : kClasses)
    if (type == family) return std::string(name).append(head);
  fail_protocol("[architecture] no model of family '{}'", family);
}

}  // namespace

std::string sequence_classification(std::string_view family) { return with_head(family, "ForSequenceClassification"); }
std::string masked_prediction(std::string_view family) { return with_head(family, "ForMaskedLM"); }

}  // namespace zerostep
