#pragma once
#include <memory>
#include <vector>

#include "base/device.h"
#include "models/model.h"

namespace zerostep {

// A model on one device for plain forwards, without a graph or dropout: its units hold fp32 parameters of their own. The definition
// outlives it.
class PlainModel {
 public:
  PlainModel(const ModelDefinition& model, const ParameterReader& read, const Device& device = Device::cpu());
  const ModelDefinition& definition() const { return model_; }
  const Device& device() const { return device_; }
  // What the last unit gets of a batch that lies on the device; and what it makes of that.
  TensorList body(const Batch& batch) const;
  TensorList head(const TensorList& hidden, const Batch& batch) const;
  // All units: logits.
  at::Tensor logits(const Batch& batch) const;

 private:
  const ModelDefinition& model_;
  Device device_;
  std::vector<std::unique_ptr<Unit>> units_;
};

}  // namespace zerostep
