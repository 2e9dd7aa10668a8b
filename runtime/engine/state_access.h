#pragma once
#include <functional>
#include <span>
#include <vector>

#include "models/parameter.h"
#include "runtime/state/lanes.h"
#include "runtime/state/sharded_state.h"
#include "runtime/state/state_places.h"

namespace zerostep {

// As ParameterReader: of the k-th array that a parameter's optimizer keeps.
using StateReader = std::function<void(const ParameterInfo& parameter, int array, int64_t begin, int64_t count, float* out)>;

// What goes into a rank's state and comes out of it between steps: every chunk is fetched for it and released again. Calls block; nothing
// may be under way on the state meanwhile.
class StateAccess {
 public:
  // What is passed must outlive the object. Chunks come and go on the communication stream.
  StateAccess(ShardedState& state, Lanes& lanes) : layout_(state.layout()), state_(state), lanes_(lanes) {}
  // First values of parameters and masters.
  void load(const ParameterReader& read);
  // The optimizer's arrays of what this rank updates.
  void load_arrays(const StateReader& read);
  // Collective: the fp32 values of one parameter, on every rank.
  void read_parameter(int unit, int index, std::vector<float>& out);
  // Copies the pieces that this rank owns (state_places), piece i to targets[i], with LibTorch's threads.
  void copy(std::span<std::byte* const> targets);

 private:
  // Calls use(where the chunk lies) while it is fetched.
  template <typename Use>
  void visit_chunk(const Buffer& chunk, bool changes, const Use& use);
  // Calls use(place, where it lies) for the places that wants(place) is true of, and fetches each chunk once for all of them.
  template <typename Wants, typename Use>
  void visit_places(std::span<const StatePlace> places, bool changes, const Wants& wants, const Use& use);
  void put(const ParameterReader& read, const ParameterInfo& parameter, int64_t begin, int64_t count, std::byte* target, DType type);
  // Writes `count` fp32 values, as `read(begin, count, out)` gives them, to where they lie as `type`: at once where the host can, or part
  // by part.
  template <typename Read>
  void write(const Read& read, int64_t count, std::byte* target, DType type);
  // `count` values of `type` at `from`, as fp32.
  void read_values(const std::byte* from, DType type, int64_t count, float* out);
  // Waits for a GPU, whose queued work may still read and write memory of the host. (A processor is done when a step returns, and whatever
  // else works on the state has been waited for.)
  void settle();
  void copy_and_wait(void* to, const void* from, int64_t num_bytes);
  std::vector<StatePlace> places(Elements elements) const { return state_places(layout_, state_.plan(), lanes_.group.rank(), elements); }

  const ModelLayout& layout_;
  ShardedState& state_;
  Lanes& lanes_;
  std::vector<float> values_;      // before they are cast
  std::vector<std::byte> staged_;  // as they lie on the device
};

}  // namespace zerostep
