#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/parameter.h"
#include "offload/flat_kernels.h"
#include "runtime/config/config.h"
#include "runtime/strategy/owned_gradient.h"

namespace zerostep {

class Directions;

// How the backprop gradient g makes the unit directions of a step: d_i = a_i g + b_i z_i where an entry of g takes part, a_i g where it is
// kept alone, b_i z_i elsewhere. `cosine`: every entry is a mixture. `energy`: entries of at least `threshold` are kept, the others noise.
// g is the reduced gradient before averaging: directions do not depend on its scale.
struct Instruction {
  bool energy = false;
  float threshold = 0;                                 // energy: of |g|
  std::vector<float> gradient_weights, noise_weights;  // a_i, b_i
  std::vector<double> cosine;                          // realised, of d_i and g

  GradientEntries entries() const { return {energy ? GradientEntries::Which::Largest : GradientEntries::Which::All, threshold}; }
};

// Sums over the whole model that an instruction is made of, per direction: over all entries (cosine) or those not kept (energy).
struct InstructionSums {
  double noise_gradient = 0, noise_noise = 0;  // <z, g>, <z, z>
};
// `gradient_squares`: ||g||^2; `kept_squares`: of the entries kept (energy); `elements`: of all parameters trained.
Instruction make_instruction(const StepConfig::Instruct& config, std::span<const InstructionSums> sums, double gradient_squares,
                             double kept_squares, float threshold, int64_t elements);

// Adds the sums of `count` elements of a parameter, from `first` on, with their reduced gradient: <z, g> and <z, z> of each direction of a
// step and, last, the energy kept. 2 sums a direction and one, which are there when the directions' stream is.
void add_instruction_sums(const Directions& directions, const Instruction& instruction, int64_t step, const ParameterInfo& parameter,
                          int64_t first, int64_t count, const float* gradient, std::span<double> sums);

// Energy of |g| by magnitude, so that the threshold is found without a sort: a bin for every value of the 12 bits below the sign, then, for
// the bin in which the share is reached, one for each value of the next 12.
class EnergyHistogram {
 public:
  static constexpr int kBins = kEnergyBins;
  // Of kBins zeros, which must outlive it where the kernels' stream and the host reach them. coarse_bin -1: the first of both.
  explicit EnergyHistogram(std::span<double> bins, int coarse_bin = -1) : coarse_(coarse_bin), energy_(bins) {}
  // Launches. The energy is there when the stream is.
  void add(const float* values, int64_t count, const FlatKernels& kernels, const Stream& stream) {
    kernels.add_energy(values, count, coarse_, energy_.data(), stream);
  }
  std::span<double> energy() { return energy_; }
  // The bin in which the energy from the largest values down, `above` that of higher bins included, reaches `wanted`; `above` grows by what
  // lies in higher bins of this histogram.
  int find(double wanted, double& above) const;
  // Smallest magnitude of a fine bin.
  float magnitude_of(int fine_bin) const;

 private:
  int coarse_;
  std::span<double> energy_;
};

// Launches what an instruction needs of the reduced gradient before the ranks have agreed on its norm, so that whoever waits for the norm
// waits for that as well: the sums of `cosine`. Those of `energy` need the threshold, which needs the norm: nothing is launched.
std::span<double> begin_instruction(const StepConfig::Instruct& config, const Directions& directions, int64_t step,
                                    std::span<const OwnedGradient> owned);
// What a step's directions become, from the reduced gradient; `gradient_squares`: ||g||^2; `elements`: of all parameters trained; `sums`:
// what begin_instruction() gave, when the directions' stream was through with it. Nothing where there is no gradient: the directions stay
// random. Collective. With `energy` it waits for the stream three times: two histograms find the threshold, then come the sums.
std::optional<Instruction> find_instruction(const StepConfig::Instruct& config, const Directions& directions, int64_t step,
                                            std::span<const OwnedGradient> owned, double gradient_squares, int64_t elements,
                                            std::span<double> sums, const AddOverRanks& add);

}  // namespace zerostep
