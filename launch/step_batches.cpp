#include "launch/step_batches.h"

#include "runtime/strategy/zeroth_order.h"

namespace zerostep {

StepBatchSource::StepBatchSource(const Config& config, const DataStream& train, const DataStream* backprop, int rank, int world)
    : config_(config),
      queries_(train),
      backprop_(backprop == nullptr ? train : *backprop),
      query_shape_{},
      backprop_shape_{config.batch.train_batch_size, config.batch.micro_batch_size, rank, world} {
  if (!config.step.uses_queries()) return;
  const QueryShare share = query_share(config.step, rank, world);
  query_shape_ = {config.step.query_batch.train_batch_size, config.step.query_batch.micro_batch_size, share.data_rank, share.data_ranks};
}

StepBatches StepBatchSource::at(int64_t step) const {
  const auto queries = [this, step](int64_t direction, int64_t micro_batch) {
    const StepConfig& c = config_.step;
    return queries_.batch(c.independent_data ? step * c.queries + direction : step, micro_batch, query_shape_);
  };
  return {[this, step](int64_t m) { return backprop_.batch(step, m, backprop_shape_); }, queries};
}

}  // namespace zerostep
