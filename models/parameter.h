#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace zerostep {

// Where a parameter's first values come from.
struct ParameterInit {
  // Sinusoids of a table [positions, width]: sin(p / 10000^(c / width)) in even columns c, cosines of the same in the odd ones behind them
  // (arXiv 1706.03762).
  enum class Kind : uint8_t { Zeros, Ones, Normal, Sinusoids } kind = Kind::Zeros;
  float std = 0;  // Normal(0, std)
};

// A parameter as data; nothing is allocated. Names are those of `named_parameters()` of the Hugging Face model.
struct ParameterInfo {
  std::string name;            // "transformer.h.0.attn.c_attn.weight"
  std::vector<int64_t> shape;  // Hugging Face's
  int64_t first = 0;           // global element index of element 0: registration order, no padding, a tied weight once
  ParameterInit init;
  bool trainable = true;
  bool out_by_in = false;  // a matrix [out, in], which products use transposed, instead of [in, out]
  // The unit's backward writes every element of a fresh pre-assigned gradient (models/parameter_gradient.h), once per backward: the
  // buffer needs no zeroing. Otherwise the backward adds to what is there.
  bool overwritten_gradient = false;
  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  // That a model computes with in `compute_type`: matrices have it, vectors (biases, norms) stay in fp32.
  DType type(DType compute_type) const { return shape.size() >= 2 ? compute_type : DType::F32; }
};

// A use of another unit's parameter (a tied head): the parameter lives in `unit`, and this unit needs it gathered too.
struct BorrowedParameter {
  int unit;
  int parameter;  // index among that unit's parameters
  // As in ParameterInfo, for this use. The last use of a parameter comes first in the backward: where both uses share one gradient buffer,
  // the borrower overwrites it and the owner adds, so it needs no zeroing at all; with a buffer for each use the owner's needs zeroing.
  bool overwritten_gradient = false;
  // What Hugging Face calls it in this use: a file may hold it under this name, alone or beside the owner's.
  const char* name = "";
};

// Gives values [begin, begin + count) of a parameter, row-major.
using ParameterReader = std::function<void(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out)>;

// Values [begin, begin + count) of a parameter as the seed alone determines them (Philox, tag "initialisation", keyed by the global element
// index).
void initial_values(const ParameterInfo& parameter, uint64_t seed, int64_t begin, int64_t count, float* out);
// The same of a seed.
ParameterReader make_initial_values(uint64_t seed);

}  // namespace zerostep
