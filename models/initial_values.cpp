#include <algorithm>

#include "base/error.h"
#include "base/noise.h"
#include "models/model.h"

namespace zerostep {

void initial_values(const ParameterInfo& parameter, uint64_t seed, int64_t begin, int64_t count, float* out) {
  if (begin < 0 || count < 0 || begin + count > parameter.num_elements()) {
    fail_protocol("[initial_values] {} has {} elements, asked for [{}, {})", parameter.name, parameter.num_elements(), begin,
                  begin + count);
  }
  switch (parameter.init.kind) {
    case ParameterInit::Kind::Zeros:
      std::fill_n(out, count, 0.0f);
      return;
    case ParameterInit::Kind::Ones:
      std::fill_n(out, count, 1.0f);
      return;
    case ParameterInit::Kind::Normal:
      break;
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

}  // namespace zerostep
