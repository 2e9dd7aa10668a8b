#include "tests/models/support/reference_case.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

namespace zerostep {

const nlohmann::json& reference_cases(const std::string& file) {
  static std::map<std::string, nlohmann::json> files;
  const auto [place, is_new] = files.try_emplace(file);
  if (is_new) {
    const char* root = std::getenv("ZEROSTEP_SOURCE_DIR");
    const auto folder = root != nullptr ? std::filesystem::path(root) : std::filesystem::path(__FILE__).parent_path() / "../../..";
    place->second = nlohmann::json::parse(std::ifstream(folder / "tests/models/reference" / file)).at("cases");
  }
  return place->second;
}

std::vector<std::string> names_of_cases(const std::string& file) {
  std::vector<std::string> names;
  for (const auto& reference : reference_cases(file)) names.push_back(reference.at("name"));
  return names;
}

void expect_parameters(const WholeModel& model, const nlohmann::json& reference) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> found, expected;
  for (const UnitInfo& unit : model.definition->units())
    for (const ParameterInfo& p : unit.parameters) found.emplace_back(p.name, p.shape);
  for (const auto& p : reference.at("parameters")) expected.emplace_back(p.at("name"), p.at("shape"));
  EXPECT_EQ(found, expected);
}

void expect_gradients(WholeModel& model, const nlohmann::json& reference, double tolerance) {
  for (const auto& p : reference.at("parameters")) {
    const std::string name = p.at("name");
    const at::Tensor g = model.parameter(name).grad().flatten().to(at::kDouble);
    const double norm = p.at("norm"), projection = p.at("projection");
    EXPECT_NEAR(g.norm().item<double>(), norm, tolerance * norm + 1e-5) << name;
    const at::Tensor weights = at::cos(0.11 * at::arange(g.numel(), at::kDouble));
    EXPECT_NEAR((g * weights).sum().item<double>(), projection, tolerance * norm + 1e-5) << name;
  }
}

}  // namespace zerostep
