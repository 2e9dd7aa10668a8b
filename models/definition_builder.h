#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/unit.h"

namespace zerostep {

// Fills the units of a definition in order; global element indices follow from it.
class DefinitionBuilder {
 public:
  explicit DefinitionBuilder(std::vector<UnitInfo>& units) : units_(units) {}
  UnitInfo& begin_unit(std::string name) {
    units_.emplace_back();
    units_.back().name = std::move(name);
    return units_.back();
  }
  // Of the last unit. Its backward writes the gradient as models/parameter_gradient.h says.
  ParameterInfo& add(std::string name, std::vector<int64_t> shape, const ParameterInit& init) {
    ParameterInfo parameter;
    parameter.name = std::move(name);
    parameter.shape = std::move(shape);
    parameter.first = first_;
    parameter.init = init;
    parameter.overwritten_gradient = true;
    first_ += parameter.num_elements();
    units_.back().parameters.push_back(std::move(parameter));
    return units_.back().parameters.back();
  }

 private:
  std::vector<UnitInfo>& units_;
  int64_t first_ = 0;
};

}  // namespace zerostep
