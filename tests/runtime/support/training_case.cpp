#include "tests/runtime/support/training_case.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/noise.h"
#include "models/scalar_type.h"
#include "offload/host_optimizer.h"
#include "runtime/engine/training_cost.h"
#include "runtime/memory/memory_meter.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/orthogonal_reference.h"

namespace zerostep::testing {

TrainingCase TrainingCase::tiny() {
  TrainingCase out;
  // Sizes that divide by no world size; a head much larger than a block's vectors.
  out.model = {.n_layer = 3,
               .n_embd = 20,
               .n_head = 2,
               .n_positions = 12,
               .n_inner = 36,
               .vocab_size = 61,
               .resid_pdrop = 0,
               .embd_pdrop = 0,
               .attn_pdrop = 0};
  out.config.seed = 7;
  out.config.optimizer.weight_decay = 0.01;
  out.config.optimizer.lr = 1e-2;
  out.config.zero.stage3_param_persistence_threshold = 0;
  out.set_micro_batch(8, 1);
  return out;
}

void TrainingCase::set_micro_batch(int64_t micro, int world) {
  config.batch = {global_batch, micro, global_batch / (micro * world)};
  EXPECT_EQ(config.batch.accumulation_steps * micro * world, global_batch);
}

Batch TrainingCase::batch(int64_t step, int64_t accumulation_step, int rank, int world) const {
  const int64_t micro = config.batch.micro_batch_size;
  Batch out;
  out.tokens = at::empty({micro, sequence}, at::kLong);
  out.labels = at::empty({micro, sequence}, at::kLong);
  const auto ignored = [&](int64_t sample, int64_t t) { return with_ignored_labels && (sample + t) % 5 == 0; };
  for (int64_t j = 0; j < global_batch; ++j)
    for (int64_t t = 0; t < sequence; ++t) out.global_valid_tokens += ignored(j, t) ? 0 : 1;
  for (int64_t i = 0; i < micro; ++i) {
    const int64_t sample = (accumulation_step * world + rank) * micro + i, id = step * global_batch + sample;
    std::vector<uint32_t> bits(static_cast<size_t>(sequence + 1));
    // The same tokens at every step, so that the loss falls.
    fill_bits({99, NoiseTag::Permutation, 0, 0}, static_cast<uint64_t>(sample * (sequence + 1)), sequence + 1, bits.data());
    for (int64_t t = 0; t < sequence; ++t) {
      out.tokens[i][t] = static_cast<int64_t>(bits[static_cast<size_t>(t)] % static_cast<uint32_t>(model.vocab_size));
      const bool skip = ignored(sample, t);
      out.labels[i][t] = skip ? -100 : static_cast<int64_t>(bits[static_cast<size_t>(t + 1)] % static_cast<uint32_t>(model.vocab_size));
      out.valid_tokens += skip ? 0 : 1;
    }
    out.sample_ids.push_back(id);
  }
  return out;
}

TrainingOutcome run_engine(const TrainingCase& test, Communicator world) {
  install_metered_allocator();
  at::set_num_threads(1);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  TrainingPlan plan = plan_training(test.config, *model, *objective, world.size());
  TrainingOutcome out;
  WorkspaceMeter workspaces;
  Config config = test.config;
  config.data.sequence_length = test.sequence;
  const PlanCost cost = training_cost(config, plan, *model, *objective, &workspaces);
  out.planned_peak = cost.device_peak_bytes;
  out.planned_gathered = cost.elements_gathered;
  out.planned_reduced = cost.elements_reduced;
  Engine engine(
      test.config, *model, *objective, std::move(plan),
      [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
        initial_values(info, test.config.seed, begin, count, values);
      },
      world);
  for (int step = 0; step < test.steps; ++step) {
    out.last = engine.train_step(step, [&](int64_t m) { return test.batch(step, m, world.rank(), world.size()); });
    out.losses.push_back(out.last.loss.value());
    out.norms.push_back(out.last.grad_norm);
    out.loss_scales.push_back(out.last.loss_scale);
    out.skipped.push_back(out.last.skipped);
  }
  out.measured_peak = engine.device_peak_bytes();
  for (size_t u = 0; u < model->units().size(); ++u)
    for (size_t p = 0; p < model->units()[u].parameters.size(); ++p) {
      out.parameters.emplace_back();
      engine.read_parameter(static_cast<int>(u), static_cast<int>(p), out.parameters.back());
    }
  return out;
}

TrainingOutcome run_engine_threads(const TrainingCase& test, int ranks) {
  std::vector<TrainingOutcome> outcomes(static_cast<size_t>(ranks));
  run_local_ranks(ranks, {.timeout_seconds = 60},
                  [&](Communicator world) { outcomes[static_cast<size_t>(world.rank())] = run_engine(test, world); });
  for (const TrainingOutcome& other : outcomes) {
    EXPECT_EQ(other.losses, outcomes[0].losses);
    EXPECT_EQ(other.parameters, outcomes[0].parameters);
  }
  return outcomes[0];
}

namespace {

struct ReferenceParameter {
  ParameterInfo info;
  ModelLayout::Place place;
  std::vector<float> master, exp_avg, exp_avg_sq, gradient;
  OrthogonalState orthogonal;
  at::Tensor tensor;  // compute type
};

}  // namespace

TrainingOutcome run_reference(const TrainingCase& test, int ranks) {
  at::set_num_threads(1);
  const Config& config = test.config;
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  // Who owns which element: only the norm's order of summation depends on it.
  const ModelLayout layout = plan_training(config, *model, *objective, ranks).layout;
  std::vector<ReferenceParameter> parameters;
  std::vector<size_t> first_of_unit;
  for (size_t u = 0; u < model->units().size(); ++u) {
    first_of_unit.push_back(parameters.size());
    for (size_t p = 0; p < model->units()[u].parameters.size(); ++p) {
      ReferenceParameter out{layout.units[u].parameters[p], layout.places[u][p], {}, {}, {}, {}, {}, {}};
      const size_t n = static_cast<size_t>(out.info.num_elements());
      out.master.resize(n);
      initial_values(out.info, config.seed, 0, static_cast<int64_t>(n), out.master.data());
      out.exp_avg.assign(n, 0);
      out.exp_avg_sq.assign(n, 0);
      parameters.push_back(std::move(out));
    }
  }
  TrainingOutcome outcome;
  LossScaler scaler(config.precision);
  const auto schedule = make_lr_schedule(config.scheduler, config.optimizer);
  int64_t applied = 0;
  const bool reduces_every_micro_batch = config.zero.stage >= 2 && ranks > 1;
  for (int step = 0; step < test.steps; ++step) {
    for (auto& p : parameters) {
      p.tensor = at::empty(p.info.shape, at::kFloat);
      std::copy(p.master.begin(), p.master.end(), p.tensor.data_ptr<float>());
      p.tensor = p.tensor.to(scalar_type(p.info.type(config.precision.compute))).detach().requires_grad_(p.info.trainable);
      p.gradient.assign(p.master.size(), 0);
    }
    std::vector<std::unique_ptr<Unit>> units;
    for (size_t u = 0; u < model->units().size(); ++u) {
      std::vector<at::Tensor> tensors;
      for (size_t p = 0; p < model->units()[u].parameters.size(); ++p) tensors.push_back(parameters[first_of_unit[u] + p].tensor);
      for (const auto& b : model->units()[u].borrowed)
        tensors.push_back(parameters[first_of_unit[static_cast<size_t>(b.unit)] + static_cast<size_t>(b.parameter)].tensor);
      units.push_back(model->make_unit(static_cast<int>(u), std::move(tensors)));
    }
    // Gradients of each rank by itself; sums where the stage sums.
    std::vector<double> rank_loss(static_cast<size_t>(ranks), 0);
    double tokens = 0;
    const double before_sum = config.prescale_gradients ? 1.0 / ranks : 1 / config.gradient_predivide_factor;
    const double after_sum = config.prescale_gradients ? 1.0 : config.gradient_predivide_factor / ranks;
    // In fp16 every micro-batch begins with the mean over itself.
    const bool fp16 = config.precision.compute == DType::F16;
    const double micro_batches = static_cast<double>(ranks * config.batch.accumulation_steps);
    std::vector<std::vector<std::vector<float>>> accumulated(static_cast<size_t>(ranks));
    const auto sum_over_ranks = [&](bool add) {
      for (size_t i = 0; i < parameters.size(); ++i)
        for (size_t e = 0; e < parameters[i].gradient.size(); ++e) {
          float sum = accumulated[0][i][e];
          for (int r = 1; r < ranks; ++r) sum += accumulated[static_cast<size_t>(r)][i][e];
          parameters[i].gradient[e] = add ? parameters[i].gradient[e] + sum : sum;
        }
    };
    for (int64_t m = 0; m < config.batch.accumulation_steps; ++m) {
      for (int r = 0; r < ranks; ++r) {
        auto& own = accumulated[static_cast<size_t>(r)];
        if (own.empty() || reduces_every_micro_batch) {
          own.clear();
          for (const auto& p : parameters) own.emplace_back(p.master.size(), 0.0f);
        }
        for (size_t i = 0; i < parameters.size(); ++i)
          if (parameters[i].info.trainable)
            parameters[i].tensor.mutable_grad() = at::from_blob(own[i].data(), parameters[i].info.shape, at::kFloat);
        const Batch batch = test.batch(step, m, r, ranks);
        tokens = static_cast<double>(batch.global_valid_tokens);
        TensorList hidden;
        for (auto& unit : units) hidden = unit->forward(hidden, {&batch, true, config.seed, step});
        const at::Tensor loss = objective->sum(batch, hidden);
        rank_loss[static_cast<size_t>(r)] += loss.item<double>();
        loss.backward(at::full({}, scaler.scale() * (fp16 ? micro_batches : ranks * before_sum) / tokens, loss.options()));
      }
      if (reduces_every_micro_batch) sum_over_ranks(m > 0);
    }
    if (!reduces_every_micro_batch) sum_over_ranks(false);

    double squares = 0, loss = 0;
    for (int r = 0; r < ranks; ++r) {
      double partial = 0;
      for (const FlatGroup& g : layout.groups) {
        double of_group = 0;
        for (const FlatLayout::Piece& piece : g.layout.pieces(r)) {
          const auto& p = parameters[first_of_unit[static_cast<size_t>(g.unit)] +
                                     static_cast<size_t>(g.parameters[static_cast<size_t>(piece.parameter)])];
          if (p.info.trainable) of_group += sum_of_squares(p.gradient.data() + piece.parameter_offset, piece.count);
        }
        partial += of_group;
      }
      squares += partial;
      loss += rank_loss[static_cast<size_t>(r)];
    }
    const double unscale = (fp16 ? 1 / micro_batches : after_sum) / scaler.scale();
    const bool overflow = !std::isfinite(squares) || !std::isfinite(loss);
    const double norm = static_cast<float>(std::sqrt(squares) * unscale);
    outcome.losses.push_back(loss / tokens);
    outcome.norms.push_back(norm);
    outcome.skipped.push_back(overflow);
    if (!overflow) {
      const double clip = config.gradient_clipping > 0 ? std::min(1.0, config.gradient_clipping / (norm + 1e-6)) : 1.0;
      const ScheduledValues now = schedule->at(applied++);
      const double step_number = static_cast<double>(applied);
      for (auto& p : parameters) {
        if (!p.info.trainable) continue;
        if (config.optimizer.orthogonal()) {
          std::vector<double> gradient(p.gradient.begin(), p.gradient.end());
          for (double& g : gradient) g *= unscale * clip;
          reference_orthogonal_step(config.optimizer, p.info, now.lr, gradient, p.master, p.orthogonal);
          continue;
        }
        adam_step({.master = p.master.data(),
                   .gradient = p.gradient.data(),
                   .count = static_cast<int64_t>(p.master.size()),
                   .gradient_scale = static_cast<float>(unscale * clip),
                   .lr = static_cast<float>(now.lr),
                   .weight_decay = static_cast<float>(config.optimizer.weight_decay)},
                  p.exp_avg.data(), p.exp_avg_sq.data(),
                  {.beta1 = now.beta1,
                   .beta2 = now.beta2,
                   .eps = config.optimizer.eps,
                   .step_size = now.lr / (1 - std::pow(now.beta1, step_number)),
                   .inv_sqrt_bias_correction2 = 1 / std::sqrt(1 - std::pow(now.beta2, step_number)),
                   .decoupled = true});
      }
    }
    scaler.update(overflow);
    outcome.loss_scales.push_back(scaler.scale());
  }
  for (auto& p : parameters) outcome.parameters.push_back(std::move(p.master));
  return outcome;
}

}  // namespace zerostep::testing
