#include "models/model.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/noise.h"

namespace zerostep {

void initial_values(const ParameterInfo& parameter, uint64_t seed, int64_t begin, int64_t count, float* out) {
  if (begin < 0 || count < 0 || begin + count > parameter.num_elements()) {
    fail_protocol("[initial_values] {} has {} elements, asked for [{}, {})", parameter.name, parameter.num_elements(), begin,
                  begin + count);
  }
  if (parameter.init.kind == ParameterInit::Kind::Sinusoids) {
    const int64_t width = parameter.shape.at(1);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = (begin + i) / width, column = (begin + i) % width;
      const double exponent = static_cast<double>(column / 2 * 2) / static_cast<double>(width);
      const double angle = static_cast<double>(position) / std::pow(10000.0, exponent);
      out[i] = static_cast<float>(column % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
    return;
  }
  if (parameter.init.kind != ParameterInit::Kind::Normal) {
    std::fill_n(out, count, parameter.init.kind == ParameterInit::Kind::Ones ? 1.0f : 0.0f);
    return;
  }
  fill_normal({seed, NoiseTag::Initialisation}, static_cast<uint64_t>(parameter.first + begin), count, out);
  const float std = parameter.init.std;
  for (int64_t i = 0; i < count; ++i) out[i] *= std;
}

ParameterReader make_initial_values(uint64_t seed) {
  return [seed](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) {
    initial_values(parameter, seed, begin, count, out);
  };
}

int64_t ModelDefinition::num_elements() const {
  int64_t n = 0;
  for (const UnitInfo& unit : units_) n += unit.num_elements();
  return n;
}

Batch ModelDefinition::example_batch(int64_t batch, int64_t sequence) const {
  const auto spread = [](int64_t rows, int64_t columns, int64_t below) {
    return at::arange(rows * columns, at::TensorOptions().dtype(at::kLong)).remainder(below).view({rows, columns});
  };
  const bool classifies = num_classes() > 0;
  Batch out;
  out.tokens = spread(batch, sequence, vocabulary_size());
  out.labels = classifies ? spread(batch, 1, num_classes()) : spread(batch, sequence, vocabulary_size());
  if (classifies) {
    out.mask = at::ones({batch, sequence}, at::TensorOptions().dtype(at::kBool));
    if (sequence > 1) out.mask.select(1, sequence - 1).fill_(false);
    out.pads_ends = true;
  }
  for (int64_t i = 0; i < batch; ++i) out.sample_ids.push_back(i);
  out.valid_tokens = out.global_valid_tokens = out.labels.numel();
  return out;
}

}  // namespace zerostep
