#include "runtime/plan/check_patterns.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/program_name.h"
#include "runtime/plan/name_pattern.h"

namespace zerostep {
namespace {

class PatternChecker {
 public:
  PatternChecker(const Config& config, const std::vector<UnitInfo>& units) : config_(config) {
    for (const UnitInfo& unit : units)
      for (const ParameterInfo& parameter : unit.parameters) names_.push_back(parameter.name);
  }

  void check(const std::vector<std::string>& patterns, const std::string& key) const {
    for (const std::string& pattern : patterns) {
      if (num_matches(pattern) > 0) continue;
      fail_input(
          "{}: {}: the pattern \"{}\" matches no parameter: patterns are globs of whole names, and names look like \"{}\"{} (`{} inspect "
          "model FILE` lists them)",
          config_.source(key), key, pattern, names_.back(), wider(pattern), program_name());
    }
  }

  bool any_matches(const std::vector<std::string>& one, const std::vector<std::string>& other) const {
    const auto matches = [](const std::string& name, const std::vector<std::string>& patterns) {
      return patterns.empty() || matches_any(name, patterns);
    };
    return std::any_of(names_.begin(), names_.end(), [&](const std::string& name) { return matches(name, one) && matches(name, other); });
  }

 private:
  int64_t num_matches(const std::string& pattern) const {
    return std::count_if(names_.begin(), names_.end(), [&](const std::string& name) { return matches_pattern(name, pattern); });
  }

  // Patterns of other tools match parts of names.
  std::string wider(const std::string& pattern) const {
    for (const std::string& wide : {"*" + pattern, "*" + pattern + "*"})
      if (const int64_t found = num_matches(wide); found > 0)
        return fmt::format("; \"{}\" would match {} of {}", wide, found, names_.size());
    return "";
  }

  const Config& config_;
  std::vector<std::string> names_;
};

}  // namespace

std::vector<std::string> scope_patterns(const StepConfig& step, const ModelDefinition& model) {
  if (step.scope == std::vector<std::string>{"full"}) return {};
  if (step.scope == std::vector<std::string>{"reduced"}) return model.reduced_scope();
  return step.scope;
}

void check_patterns(const Config& config, const ModelDefinition& model) {
  const PatternChecker checker(config, model.units());
  const std::vector<std::string> scope = scope_patterns(config.step, model);
  checker.check(config.model.trainable, "model.trainable");
  checker.check(scope, "step.scope");
  checker.check(config.optimizer.no_decay, "optimizer.params.no_decay");
  for (size_t i = 0; i < config.optimizer.groups.size(); ++i)
    checker.check(config.optimizer.groups[i].patterns, fmt::format("optimizer.groups[{}].patterns", i));
  if (config.optimizer.no_muon) checker.check(*config.optimizer.no_muon, "optimizer.params.no_muon");
  if (!checker.any_matches(config.model.trainable, scope))
    fail_input("{}: model.trainable and step.scope leave no parameter to train: no name matches a pattern of both",
               config.source(config.sources.contains("step.scope") ? "step.scope" : "model.trainable"));
}

}  // namespace zerostep
