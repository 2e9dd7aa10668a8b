#include "runtime/state/state_places.h"

#include "runtime/state/sharded_state.h"

namespace zerostep {

std::vector<StatePlace> state_places(const ModelLayout& layout, const Plan& plan, int rank, Elements elements) {
  const PlanOptions& options = plan.options;
  std::vector<StatePlace> out;
  for (const FlatGroup& g : layout.groups) {
    const StateChunks chunks = state_chunks(g, plan);
    const bool whole = keeps_parameters_whole(g, options);
    for (const ShardedState::Piece& p :
         elements == Elements::Owned ? ShardedState::owned_in_chunks(g, plan, rank) : ShardedState::updated_in_chunks(g, plan, rank)) {
      const ParameterInfo* parameter = &layout.parameter(g, p.parameter);
      const auto add_array = [&](int array, int chunk_array) {
        out.push_back({{parameter, array, p.parameter_offset, p.count, DType::F32},
                       {BufferKind::UpdateState, g.id, p.chunk},
                       num_bytes(chunks.offset(p.chunk, chunk_array, p.part_offset), DType::F32)});
      };
      const int masters = chunks.has_masters ? 1 : 0;
      if (chunks.has_masters)
        add_array(StatePiece::kValues, 0);
      else
        out.push_back({{parameter, StatePiece::kValues, p.parameter_offset, p.count, g.type},
                       {BufferKind::Parameters, g.id},
                       num_bytes(whole ? p.full_offset : p.shard_offset, g.type)});
      for (int k = 0; k < chunks.arrays - masters; ++k) add_array(k, masters + k);
    }
  }
  for (const AssignedParameter& p : plan.matrices.parameters)
    for (int k = 0; k < (p.owner == rank ? options.matrix_state_values : 0); ++k)
      out.push_back({{&layout.parameter(layout.group(p.group), p.parameter), k, 0, p.num_elements(), DType::F32},
                     {BufferKind::MatrixState},
                     num_bytes(k * plan.matrices.state_elements + p.state_offset, DType::F32)});
  return out;
}

}  // namespace zerostep
