#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/models/support/whole_model.h"

namespace zerostep {

// The cases of a file in tests/models/reference, which a script beside it has written. The process ends when it cannot be read.
const nlohmann::json& reference_cases(const std::string& file);
std::vector<std::string> names_of_cases(const std::string& file);

// Compares names and shapes of the parameters with a case's.
void expect_parameters(const WholeModel& model, const nlohmann::json& reference);
// Compares norm and projection on cos(0.11 i) of each parameter's .grad with a case's: within `tolerance` of the norm and 1e-5, which is
// for gradients that are zero but for rounding (biases of keys).
void expect_gradients(WholeModel& model, const nlohmann::json& reference, double tolerance);

}  // namespace zerostep
