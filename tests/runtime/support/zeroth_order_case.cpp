#include "tests/runtime/support/zeroth_order_case.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/noise.h"
#include "runtime/engine/training_cost.h"
#include "runtime/memory/memory_meter.h"
#include "sharding/local_ranks.h"
#include "sharding/nccl_communicator.h"
#include "sharding/staged_communicator.h"
#include "sharding/thread_communicator.h"

namespace zerostep::testing {

ZerothOrderCase ZerothOrderCase::tiny(Mode mode) {
  ZerothOrderCase out;
  static_cast<TrainingCase&>(out) = TrainingCase::tiny();
  StepConfig& step = out.config.step;
  step.mode = mode;
  step.mode_name = mode == Mode::ZerothOrder ? "zo"
                   : mode == Mode::Calibrate ? "calibrate"
                   : mode == Mode::Instruct  ? "instruct"
                                             : "alternating";
  step.queries = 2;
  step.epsilon = 1e-3;
  step.query_sequence_length = out.config.data.sequence_length = out.sequence;
  if (mode == Mode::Calibrate || mode == Mode::Instruct) step.bp_interval = 2;
  if (mode == Mode::Alternating) step.zo_steps = 1;
  out.share_over(1);
  return out;
}

void ZerothOrderCase::share_over(int world) {
  const int64_t data_ranks = world / config.step.direction_parallel;
  set_micro_batch(kMicroBatch, world > 4 ? 4 : world);  // backprop; more than four ranks only make queries
  config.step.query_batch = {global_batch, kMicroBatch, global_batch / (kMicroBatch * data_ranks)};
  EXPECT_EQ(config.step.query_batch.accumulation_steps * kMicroBatch * data_ranks, global_batch);
}

Batch ZerothOrderCase::query_batch(int64_t index, int64_t micro_batch, int rank, int ranks) const {
  const int64_t micro = config.step.query_batch.micro_batch_size;
  Batch out;
  out.tokens = at::empty({micro, sequence}, at::kLong);
  out.labels = at::empty({micro, sequence}, at::kLong);
  const auto ignored = [&](int64_t sample, int64_t t) { return with_ignored_labels && (sample + t) % 5 == 0; };
  for (int64_t j = 0; j < global_batch; ++j)
    for (int64_t t = 0; t < sequence; ++t) out.global_valid_tokens += ignored(j, t) ? 0 : 1;
  int64_t *tokens = out.tokens.data_ptr<int64_t>(), *labels = out.labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < micro; ++i) {
    const int64_t sample = (micro_batch * ranks + rank) * micro + i, id = index * global_batch + sample;
    std::vector<uint32_t> bits(static_cast<size_t>(sequence + 1));
    fill_bits({77, NoiseTag::Permutation, 0, 0}, static_cast<uint64_t>(id * (sequence + 1)), sequence + 1, bits.data());
    for (int64_t t = 0; t < sequence; ++t) {
      tokens[i * sequence + t] = static_cast<int64_t>(bits[static_cast<size_t>(t)] % static_cast<uint32_t>(model.vocab_size));
      const int64_t next = static_cast<int64_t>(bits[static_cast<size_t>(t + 1)] % static_cast<uint32_t>(model.vocab_size));
      labels[i * sequence + t] = ignored(sample, t) ? -100 : next;
      out.valid_tokens += ignored(sample, t) ? 0 : 1;
    }
    out.sample_ids.push_back(id);
  }
  return out;
}

int64_t ZerothOrderCase::query_index(int64_t step, int64_t direction) const {
  return config.step.independent_data ? step * config.step.queries + direction : step;
}

StepBatches ZerothOrderCase::batches(int64_t step, int rank, int world) const {
  const QueryShare share = query_share(config.step, rank, world);
  return {[this, step, rank, world](int64_t m) { return batch(step, m, rank, world); },
          [this, step, share](int64_t direction, int64_t m) {
            return query_batch(query_index(step, direction), m, share.data_rank, share.data_ranks);
          }};
}

std::string ZerothOrderCase::name() const {
  const StepConfig& step = config.step;
  const char* distributions[] = {"gaussian", "rademacher", "low_rank"};
  return fmt::format("{}_{}_{}_{}_{}", step.mode_name, step.estimator == StepConfig::Estimator::Central ? "central" : "forward",
                     distributions[static_cast<int>(step.perturbation)], config.optimizer.type_name, name_of(config.precision.compute));
}

namespace {

Communicator group_on(const Device& device, const Communicator& world, const Config& config, const EngineSetup& setup) {
  if (device.is_host()) return world;
  using Between = EngineSetup::Between;
  if (world.size() == 1 || setup.between == Between::Staged) return make_staged_communicator(world, device);
  if (setup.between == Between::Threads) return make_thread_communicator(world, device, 60);
  std::string why_not;
  const auto made = make_nccl_communicator(world, device, {60, config.run.deterministic}, why_not);
  if (!made) throw RunError(why_not);
  return *made;
}

}  // namespace

ZerothOrderOutcome run_zeroth_order(const ZerothOrderCase& test, Communicator world, const EngineSetup& setup) {
  install_metered_allocator();
  at::set_num_threads(1);
  const Device device = setup.device_of_rank ? setup.device_of_rank(world.rank()) : setup.device;
  const auto model = make_gpt2(test.model);
  const auto cross_entropy = make_cross_entropy();
  const Objective& objective = setup.objective == nullptr ? *cross_entropy : *setup.objective;
  TrainingPlan plan = plan_training(test.config, *model, objective, world.size(), setup.updates);
  if (setup.change_plan) setup.change_plan(plan);
  ZerothOrderOutcome out;
  out.queries_per_pass = plan.queries_per_pass;
  WorkspaceMeter workspaces;
  out.planned_peak = training_cost(test.config, plan, *model, objective, &workspaces).device_peak_bytes;
  const auto planned_of = [&](int64_t step) {
    const Plan& of_kind = plan.step(step_kind(test.config.step, step));
    StepTraffic traffic{of_kind.elements_gathered, of_kind.elements_reduced, of_kind.file_bytes_read, of_kind.file_bytes_written};
    if (step == 0) traffic.elements_reduced += elements_of_unchanged_share(test.config, world.size());
    return traffic;
  };
  if (test.steps > 0) {
    const StepTraffic last = planned_of(test.steps - 1);
    out.planned_gathered = last.elements_gathered;
    out.planned_reduced = last.elements_reduced;
  }
  const auto by_seed = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
    initial_values(info, test.config.seed, begin, count, values);
  };
  Engine engine(test.config, *model, objective, plan, setup.initial ? setup.initial : ParameterReader(by_seed),
                group_on(device, world, test.config, setup), device);
  for (int step = 0; step < test.steps; ++step) {
    if (setup.before_step) setup.before_step(step, engine);
    out.last = engine.train_step(step, test.batches(step, world.rank(), world.size()));
    if (setup.after_step) setup.after_step(step, engine);
    out.losses.push_back(out.last.loss);
    out.bp_losses.push_back(out.last.bp_loss);
    out.norms.push_back(out.last.grad_norm);
    out.skipped.push_back(out.last.skipped);
    out.traffic.push_back({out.last.elements_gathered, out.last.elements_reduced, out.last.file_bytes_read, out.last.file_bytes_written});
    out.planned_traffic.push_back(planned_of(step));
    out.scalars.push_back(out.last.scalars);
    out.clip_scales.push_back(out.last.clip_scale);
    if (out.last.cosine) out.cosines.push_back(*out.last.cosine);
  }
  out.measured_peak = engine.device_peak_bytes();
  for (size_t u = 0; u < model->units().size(); ++u)
    for (size_t p = 0; p < model->units()[u].parameters.size(); ++p) {
      out.parameters.emplace_back();
      engine.read_parameter(static_cast<int>(u), static_cast<int>(p), out.parameters.back());
    }
  return out;
}

ZerothOrderOutcome run_zeroth_order_threads(ZerothOrderCase test, int ranks, const EngineSetup& setup) {
  test.share_over(ranks);
  std::vector<ZerothOrderOutcome> outcomes(static_cast<size_t>(ranks));
  run_local_ranks(ranks, {.timeout_seconds = 60},
                  [&](Communicator world) { outcomes[static_cast<size_t>(world.rank())] = run_zeroth_order(test, world, setup); });
  for (const ZerothOrderOutcome& other : outcomes) {
    // A skipped step has values that are no numbers.
    for (size_t s = 0; s < other.losses.size(); ++s) {
      if (other.skipped[s]) continue;
      EXPECT_EQ(other.losses[s], outcomes[0].losses[s]);
      EXPECT_EQ(other.scalars[s], outcomes[0].scalars[s]);
    }
    EXPECT_EQ(other.skipped, outcomes[0].skipped);
    EXPECT_EQ(other.parameters, outcomes[0].parameters);
  }
  return outcomes[0];
}

double relative_difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b,
                           const std::vector<std::vector<float>>& from) {
  double difference = 0, update = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t p = 0; p < b.size(); ++p) {
    EXPECT_EQ(a[p].size(), b[p].size());
    for (size_t i = 0; i < b[p].size(); ++i) {
      difference += std::pow(static_cast<double>(a[p][i]) - static_cast<double>(b[p][i]), 2);
      update += std::pow(static_cast<double>(b[p][i]) - static_cast<double>(from[p][i]), 2);
    }
  }
  return std::sqrt(difference / update);
}

double relative_difference(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  double difference = 0, largest = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t s = 0; s < b.size(); ++s) {
    EXPECT_EQ(a[s].size(), b[s].size()) << "step " << s;
    for (size_t i = 0; i < std::min(a[s].size(), b[s].size()); ++i) {
      difference = std::max(difference, std::abs(a[s][i] - b[s][i]));
      largest = std::max(largest, std::abs(b[s][i]));
    }
  }
  return largest == 0 ? 0 : difference / largest;
}

double sign_tolerance(double scalars) { return 2 * std::sqrt(0.8 * scalars); }

void expect_like(const ZerothOrderOutcome& found, const ZerothOrderOutcome& expected, const ZerothOrderCase& test,
                 const Tolerance& tolerance) {
  ASSERT_EQ(found.losses.size(), expected.losses.size());
  EXPECT_EQ(found.skipped, expected.skipped);
  for (size_t s = 0; s < expected.losses.size(); ++s) {
    if (expected.skipped[s]) continue;
    EXPECT_NEAR(found.losses[s].value() / expected.losses[s].value(), 1, tolerance.loss) << "loss of step " << s;
    EXPECT_NEAR(found.norms[s] / expected.norms[s], 1, 2 * tolerance.scalars) << "norm of step " << s;
    EXPECT_NEAR(found.clip_scales[s] / expected.clip_scales[s], 1, 2 * tolerance.scalars) << "clipping of step " << s;
  }
  auto found_scalars = found.scalars, expected_scalars = expected.scalars;
  for (size_t s = 0; s < expected.skipped.size(); ++s)
    if (expected.skipped[s]) found_scalars[s] = expected_scalars[s] = {};
  EXPECT_LT(relative_difference(found_scalars, expected_scalars), tolerance.scalars);
  EXPECT_LT(relative_difference(found.parameters, expected.parameters, first_values(test)), tolerance.parameters);
}

void expect_same(const ZerothOrderOutcome& a, const ZerothOrderOutcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.scalars, b.scalars);
  EXPECT_EQ(a.clip_scales, b.clip_scales);
  EXPECT_EQ(a.cosines, b.cosines);
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (size_t p = 0; p < a.parameters.size(); ++p) EXPECT_EQ(a.parameters[p], b.parameters[p]) << "parameter " << p;
}

std::vector<std::vector<float>> first_values(const TrainingCase& test) {
  std::vector<std::vector<float>> out;
  const auto model = make_gpt2(test.model);
  for (const UnitInfo& unit : model->units())
    for (const ParameterInfo& p : unit.parameters) {
      out.emplace_back(static_cast<size_t>(p.num_elements()));
      initial_values(p, test.config.seed, 0, p.num_elements(), out.back().data());
    }
  return out;
}

}  // namespace zerostep::testing
