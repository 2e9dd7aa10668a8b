#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/nth.h"
#include "models/activation_cost.h"
#include "models/unit.h"

namespace zerostep {

// A model as data, and the factory of its units.
class ModelDefinition {
 public:
  virtual ~ModelDefinition() = default;
  const std::vector<UnitInfo>& units() const { return units_; }
  const UnitInfo& unit(int index) const { return nth(units_, index); }
  int64_t num_elements() const;
  // `parameters`: one tensor per entry of units()[index].parameters, then one per borrowed parameter, shapes as declared. The unit keeps
  // them.
  virtual std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const = 0;
  virtual ActivationCost activation_cost(int index, const ActivationShape& shape) const = 0;
  // The cost of the last unit where it hands on factors of the logits (ForwardContext::takes_factors); nothing: it never does.
  virtual std::optional<ActivationCost> factors_cost(const ActivationShape& /*shape*/) const { return {}; }
  // A micro-batch of these sizes with made-up content, such as the units and the objective of the model take, for measurements: every
  // sample of a classifier is padded by one token.
  virtual Batch example_batch(int64_t batch, int64_t sequence) const;
  // Hugging Face's config.json of this model, as text.
  virtual std::string hugging_face_config() const = 0;
  // Patterns of the parameters near the output that forward-only training often restricts itself to: the last block's MLP, its norm and the
  // head (a tied one with its weight).
  virtual std::vector<std::string> reduced_scope() const = 0;
  // Names of the matrices that look tokens and positions up or turn states into logits; a tied head counts once.
  virtual std::vector<std::string> embeddings_and_head() const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t max_sequence_length() const = 0;
  // Of a classifier; 0: the model predicts tokens.
  virtual int64_t num_classes() const { return 0; }
  // Names of the classes by index, which hugging_face_config() tells; none: they have their numbers alone. Other numbers of names than
  // there are classes leave it as it is.
  virtual std::vector<std::string> class_names() const { return {}; }
  virtual void name_classes(const std::vector<std::string>&) {}
  // config.json's pad_token_id, the token that fills up shorter samples of a batch; nothing: it says none, and any token may.
  virtual std::optional<int32_t> padding_token() const { return std::nullopt; }
  // It predicts the token after each, so that it can write text.
  virtual bool predicts_next_token() const { return num_classes() == 0; }

 protected:
  std::vector<UnitInfo> units_;
};

}  // namespace zerostep
