#include "runtime/report/hyper_parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/config/values.h"

namespace zerostep {
namespace {

using schema::Kind;
using schema::Value;

constexpr std::array<std::string_view, 5> kLeading{"optimizer.params.lr", "optimizer.type", "step.mode", "step.queries",
                                                   "train_batch_size"};
constexpr std::array<std::string_view, 33> kCompared{"activation_checkpointing.number_checkpoints",
                                                     "data.sequence_length",
                                                     "gradient_accumulation_steps",
                                                     "gradient_clipping",
                                                     "model.family",
                                                     "optimizer.params.eps",
                                                     "optimizer.params.lr",
                                                     "optimizer.params.momentum",
                                                     "optimizer.params.weight_decay",
                                                     "optimizer.type",
                                                     "run.epochs",
                                                     "run.steps",
                                                     "scheduler.params.warmup_num_steps",
                                                     "scheduler.type",
                                                     "seed",
                                                     "step.blend",
                                                     "step.bp_batch_size",
                                                     "step.bp_interval",
                                                     "step.bp_lr",
                                                     "step.epsilon",
                                                     "step.estimator",
                                                     "step.mode",
                                                     "step.perturbation",
                                                     "step.queries",
                                                     "step.query_batch_size",
                                                     "step.rank",
                                                     "step.scalar_transform",
                                                     "step.scope",
                                                     "step.zo_steps",
                                                     "train_batch_size",
                                                     "train_micro_batch_size_per_gpu",
                                                     "zero_optimization.offload_optimizer.device",
                                                     "zero_optimization.stage"};

HyperParameter::Type type_of(const schema::Type& type) {
  if (type.kind == Kind::Bool) return HyperParameter::Type::Boolean;
  return type.kind == Kind::Integer || type.kind == Kind::Number ? HyperParameter::Type::Number : HyperParameter::Type::Text;
}

std::string text_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const nlohmann::json& part : value) text += (text.empty() ? "" : ", ") + text_of(part);
  return text;
}

HyperParameter parameter_of(std::string_view path, const Value* value) {
  HyperParameter out;
  out.name = path;
  out.leads = std::find(kLeading.begin(), kLeading.end(), path) != kLeading.end();
  if (const schema::Key* key = schema::find(path)) {
    out.type = type_of(key->type);
    if (key->type.kind == Kind::Choice && !key->type.nullable)
      for (std::string_view choice : schema::split_words(key->type.choices)) out.choices.emplace_back(choice);
  }
  if (value == nullptr || !value->effective || value->value.is_null()) return out;
  // A column has one type: a value of another has no place in it.
  if (out.type == HyperParameter::Type::Number && value->value.is_number()) out.value = value->value.get<double>();
  if (out.type == HyperParameter::Type::Boolean && value->value.is_boolean()) out.value = value->value.get<bool>();
  if (out.type == HyperParameter::Type::Text) out.value = text_of(value->value);
  return out;
}

bool is_compared(std::string_view path) { return std::find(kCompared.begin(), kCompared.end(), path) != kCompared.end(); }

bool has_influence(std::string_view path) {
  const schema::Key* key = schema::find(path);
  if (key == nullptr || key->list != schema::List::Honoured || key->type.is_path) return false;
  return !path.starts_with("run.") && !schema::is_of_watching(path);  // whatever run. says, the updates are the same
}

}  // namespace

std::vector<HyperParameter> hyper_parameters(const LoadedConfig& loaded, int ranks, const std::set<std::string>& swept) {
  std::set<std::string> others;
  for (const std::string& path : swept)
    if (const schema::Key* key = schema::find(path); key != nullptr && key->list == schema::List::Honoured) others.insert(path);
  for (const auto& [path, value] : loaded.values->all())
    if (value.origin == schema::Origin::Given && !value.value.is_object() && has_influence(path)) others.insert(path);
  std::erase_if(others, is_compared);
  std::vector<HyperParameter> out;
  for (std::string_view path : kCompared) out.push_back(parameter_of(path, loaded.values->find(path)));
  out.push_back({"precision", HyperParameter::Type::Text, false, {}, std::string(name_of(loaded.config.precision.compute))});
  out.push_back({"ranks", HyperParameter::Type::Number, false, {}, static_cast<double>(ranks)});
  for (const std::string& path : others) out.push_back(parameter_of(path, loaded.values->find(path)));
  for (HyperParameter& parameter : out) parameter.leads |= swept.contains(parameter.name);
  return out;
}

}  // namespace zerostep
