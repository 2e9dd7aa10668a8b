#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "tests/runtime/support/planned.h"
#include "tests/support/scratch_folder.h"

// What actions take on a machine of which all figures but one take no time, worked out from the model's sizes.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

TEST(ActionSeconds, ProductsGoAtTheRateOfTheirRowsAndWidth) {
  const Planned p(Mode::FirstOrder, 1);
  Machine m = instant_machine();
  m.gemm = {{DType::F32, 1, 1, 1e6}};
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / 1e6);
  // Rows are the tokens of a micro-batch; low-rank branches run as one batch.
  m.gemm = {{DType::F32, 1, 16, 1.0}, {DType::F32, 1 << 20, 16, 1 << 20}};  // as many operations a second as there are rows
  const double rows = static_cast<double>(ZerothOrderCase::kMicroBatch * p.test.sequence);
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / rows);
  const Planned joined(Mode::ZerothOrder, 1, [](ZerothOrderCase& c) {
    c.config.step.perturbation = StepConfig::Perturbation::LowRank;
    c.config.step.queries_per_pass = 2;
  });
  expect_near(joined.seconds_of(m, ActionKind::Visit), joined.plan->any_step().flops / (4 * rows));
  const Planned tiled(Mode::ZerothOrder, 1);
  expect_near(tiled.seconds_of(m, ActionKind::Visit), tiled.plan->any_step().flops / rows);
}

// Attention has a rate of its own, where the machine says it.
TEST(ActionSeconds, AttentionGoesAtItsOwnRate) {
  const Planned p(Mode::FirstOrder, 1);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e300, {1e3}}};
  // Scores of each token with itself and those before, and what they weigh: a forward, and a backward of twice its operations.
  const auto width = static_cast<double>(p.test.model.n_embd), length = static_cast<double>(p.test.sequence);
  const double pairs = static_cast<double>(p.test.global_batch) * length * (length + 1) / 2;
  expect_near(p.seconds_of(m, ActionKind::Visit), p.test.model.n_layer * 3 * 2 * 2 * width * pairs / 1e3);
  // A backward has one of its own where the machine says it; each head of each sample takes a time.
  m.elementwise = {{DType::F32, 1e300, {1e3, 0.5}, {1e2, 7}}};
  const double heads = static_cast<double>(p.test.global_batch) * p.test.model.n_layer * p.test.model.n_head;
  expect_near(p.seconds_of(m, ActionKind::Visit), p.test.model.n_layer * 2 * 2 * width * pairs * (1 / 1e3 + 2 / 1e2) + heads * (0.5 + 7));
  // Forwards alone: both signs of two directions.
  const Planned queries(Mode::ZerothOrder, 1);
  const double runs = 4 * static_cast<double>(queries.test.config.step.query_batch.train_batch_size);
  expect_near(queries.seconds_of(m, ActionKind::Visit),
              runs * queries.test.model.n_layer * (2 * 2 * width * length * (length + 1) / 2 / 1e3 + queries.test.model.n_head * 0.5));
}

// Products wait for their weights or for their operations, whichever takes longer; gradients come on top.
TEST(ActionSeconds, VisitsMoveTheirWeightsAndGradients) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) { c.model.tie_word_embeddings = false; });
  ASSERT_EQ(p.test.config.batch.accumulation_steps, 4);
  // The first micro-batch writes gradients, the others add to them. The embedding looks up rows alone.
  double gradients = 0, weights = 0;
  for (const FlatGroup& g : p.plan->layout.groups) {
    gradients += (4 + 3 * 8) * static_cast<double>(g.full_elements());
    if (g.unit > 0) weights += 4 * 2 * 4 * static_cast<double>(g.full_elements());
  }
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  expect_near(p.seconds_of(m, ActionKind::Visit), (weights + gradients) / 1e6);
  m.gemm = {{DType::F32, 1, 1, 1e3}};
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / 1e3 + gradients / 1e6);
}

// What the operations of a block write beside its products, told by hand, in elements of a sample of T tokens.
TEST(ActionSeconds, ABlockWritesWhatItsOperationsSay) {
  const Planned p(Mode::FirstOrder, 1);
  const int64_t samples = ZerothOrderCase::kMicroBatch, length = p.test.sequence, width = p.test.model.n_embd, inner = p.test.model.n_inner,
                heads = p.test.model.n_head;
  const int64_t rows = samples * length * width * 4, wide = samples * length * inner * 4, statistics = samples * length * 2 * 4,
                gain_and_offset = 2 * width * 4;
  const ActivationCost cost = p.model->activation_cost(1, {samples, length});
  // Forward: two norms, what attention gives and its sums, GELU.
  EXPECT_EQ(cost.forward_work.written_bytes, 2 * (rows + statistics) + rows + samples * length * heads * 4 + wide);
  EXPECT_EQ(cost.forward_work.operations, 2 + 2 + 1 + 4);
  // Backward: GELU's overwrites two; the sums of four biases read what they sum; both norms again, their gradients, and the sums where
  // two ways meet; attention gives three gradients.
  const int64_t biases = rows + wide + rows + 3 * rows, norms = 2 * (rows + statistics + rows + gain_and_offset), sums = 2 * rows;
  EXPECT_EQ(cost.backward_work.written_bytes, 2 * wide + biases + norms + sums + 3 * rows);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e6}};
  m.operation_seconds = 1;
  const auto of_block = [&](VisitKind kind) {
    return p.seconds_of(m, [=](const Plan& plan, const Action& a) {
      return a.kind == ActionKind::Visit && plan.visit(a.visit).unit == 1 && plan.visit(a.visit).kind == kind;
    });
  };
  const auto micro_batches = static_cast<double>(p.test.config.batch.accumulation_steps);
  const auto seconds = [](const ActivationCost::Work& work) {
    return static_cast<double>(work.written_bytes) / 1e6 + static_cast<double>(work.operations);
  };
  expect_near(of_block(VisitKind::Forward), micro_batches * seconds(cost.forward_work));
  expect_near(of_block(VisitKind::Backward), micro_batches * seconds(cost.backward_work));
}

TEST(ActionSeconds, TheObjectiveIsWorkOfTheLastUnit) {
  const Planned p(Mode::ZerothOrder, 1);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e6}};
  const int64_t samples = ZerothOrderCase::kMicroBatch, tokens = samples * p.test.sequence;
  const int last = static_cast<int>(p.plan->layout.units.size()) - 1;
  const double found =
      p.seconds_of(m, [=](const Plan& plan, const Action& a) { return a.kind == ActionKind::Visit && plan.visit(a.visit).unit == last; });
  // Both signs of two directions; log-probabilities of 61 words in fp32 each, and the head's norm, of both signs at once.
  const double runs = 4.0 * static_cast<double>(p.test.config.step.query_batch.accumulation_steps);
  const int64_t head = tokens * (p.test.model.n_embd + 2) * 4, objective = tokens * p.test.model.vocab_size * 4;
  expect_near(found, runs * static_cast<double>(head + objective) / 1e6);
}

TEST(ActionSeconds, RandomNumbersAreDrawnForVisitsAndForUpdates) {
  struct Case {
    const char* name;
    Mode mode;
    std::function<void(ZerothOrderCase&)> change;
    double drawn;  // times the trained elements, of visits
  };
  const auto forward = [](ZerothOrderCase& c) { c.config.step.estimator = StepConfig::Estimator::Forward; };
  const double micro_batches = 2;  // of the queries below
  const std::vector<Case> cases = {
      {"tiles are made for each micro-batch", Mode::ZerothOrder, {}, 2 * micro_batches},
      {"one-sided tiles", Mode::ZerothOrder, forward, 2 * micro_batches},
      {"copies serve all micro-batches", Mode::ZerothOrder, [](ZerothOrderCase& c) { c.config.precision.compute = DType::BF16; }, 2},
      {"backprop draws none", Mode::FirstOrder, {}, 0}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Planned p(c.mode, 1, [&](ZerothOrderCase& test) {
      test.global_batch = 2 * ZerothOrderCase::kMicroBatch;
      if (c.change) c.change(test);
    });
    Machine m = instant_machine();
    m.noise_elements_per_second = 1e3;
    // A tied head reads the embedding's group too.
    double elements = 0;
    for (int u = 0; u < std::ssize(p.plan->layout.units); ++u)
      for (const int g : p.plan->layout.used_by(u)) elements += static_cast<double>(p.plan->layout.group(g).full_elements());
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Visit), c.drawn * elements / 1e3, 1e-9 * elements);
    // Copies in 16 bit have a rate of their own where the machine says it.
    m.noise_16bit_elements_per_second = 2e3;
    const bool is_16bit = p.test.config.precision.compute == DType::BF16;
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Visit), c.drawn * elements / (is_16bit ? 2e3 : 1e3), 1e-9 * elements);
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), (c.mode == Mode::FirstOrder ? 0 : 2) * p.trained(true) / 1e3, 1e-9 * elements);
  }
}

TEST(ActionSeconds, UpdatesMoveTheirBytesAtTheRateOfTheirTier) {
  for (const bool on_host : {false, true}) {
    const Planned p(Mode::FirstOrder, 2, [&](ZerothOrderCase& c) {
      at_stage(c, 2);
      if (on_host) c.config.zero.offload_optimizer.tier = Tier::Host;
    });
    Machine m = instant_machine();
    (on_host ? m.host_update_bytes_per_second : m.update_bytes_per_second) = 1e6;
    expect_near(p.seconds_of(m, ActionKind::Update), p.bytes(ActionKind::Update) / 1e6);
    // Where the host is another memory, parameters come from the device and go back, beside each other, and gradients come from there.
    m = instant_machine();
    m.host_is_device = m.lanes_share_cores = false;
    m.host_to_device = {0.25, 1e6};
    m.device_to_host = {0.5, 1e6};
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), on_host ? 0.5 * p.calls(ActionKind::Update) + 4 * p.trained(true) / 1e6 : 0, 1e-9);
    m.host_to_device.latency_seconds = 0.75;
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), on_host ? 0.75 * p.calls(ActionKind::Update) + 4 * p.trained(true) / 1e6 : 0, 1e-9);
    const double reduced = p.test.config.batch.accumulation_steps * p.trained(true);
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Reduce), on_host ? 0.5 * p.calls(ActionKind::Reduce) + 4 * reduced / 1e6 : 0, 1e-9);
  }
}

// What a GPU updates of parameters that rest on the host comes once for the update and the queries, and goes back; where the update stands
// at the end of the step it reads and writes them there.
TEST(ActionSeconds, ShardsCrossTheLink) {
  for (const bool defers : {false, true}) {
    const Planned p(
        Mode::ZerothOrder, 1,
        [](ZerothOrderCase& c) {
          at_stage(c, 3);
          c.config.run.device = "cuda";
          c.config.gradient_clipping = 0;
          c.config.optimizer.type = OptimizerConfig::Type::SGD;
          c.config.optimizer.momentum = 0;
          c.config.zero.offload_param.tier = Tier::Host;
        },
        defers ? Updates::Deferred : Updates::Immediate);
    Machine m = instant_machine();
    m.host_is_device = m.lanes_share_cores = false;
    m.host_to_device = {0.5, 1e6};
    m.device_to_host = {0.25, 4e6};
    const double resting = 4 * p.trained(true) / 1e6;  // everything is trained
    const double groups = p.calls(ActionKind::Update);
    if (defers) {
      EXPECT_EQ(p.calls(ActionKind::BringShard), groups);
      expect_near(p.seconds_of(m, ActionKind::BringShard), 0.5 * groups + resting);
      expect_near(p.seconds_of(m, ActionKind::ReturnShard), 0.25 * groups + resting / 4);
      EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), 0, 1e-9);
    } else {
      EXPECT_EQ(p.calls(ActionKind::BringShard), 0);
      expect_near(p.seconds_of(m, ActionKind::Update), 0.5 * groups + resting);
      EXPECT_GT(p.seconds_of(m, ActionKind::Gather), resting);
    }
  }
}

TEST(ActionSeconds, CollectivesTakeTheirLink) {
  for (const bool crosses : {false, true}) {
    const Planned p(Mode::FirstOrder, 4, [](ZerothOrderCase& c) { at_stage(c, 3); });
    Machine m = instant_machine();
    m.ranks_per_host = crosses ? 2 : 4;
    (crosses ? m.gather_across_hosts : m.gather_in_host) = {0.5, 1e6};
    (crosses ? m.reduce_across_hosts : m.reduce_in_host) = {0.25, 2e6};
    m.agreement_seconds = 2;
    expect_near(p.seconds_of(m, ActionKind::Gather), 0.5 * p.calls(ActionKind::Gather) + p.bytes(ActionKind::Gather) / 1e6);
    expect_near(p.seconds_of(m, ActionKind::Reduce), 0.25 * p.calls(ActionKind::Reduce) + p.bytes(ActionKind::Reduce) / 2e6);
    // Sums, then maxima.
    expect_near(p.seconds_of(m, ActionKind::Agree), 2 * (2 + (crosses ? 0.25 : 0)));
  }
  // A machine that does not say how fast its hosts are connected.
  const Planned p(Mode::FirstOrder, 4, [](ZerothOrderCase& c) { at_stage(c, 3); });
  Machine m = instant_machine();
  m.ranks_per_host = 2;
  m.gather_across_hosts = {};
  EXPECT_THROW(p.on(m), InputError);
}

TEST(ActionSeconds, FilesTakeTheirLink) {
  const ScratchFolder folder;
  const Planned p(Mode::FirstOrder, 2, [&](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = Tier::File;
    c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
  });
  Machine m = instant_machine();
  m.file_read = {0.5, 1e6};
  m.file_write = {0.25, 2e6};
  EXPECT_GT(p.calls(ActionKind::Load), 0);
  expect_near(p.seconds_of(m, ActionKind::Load), 0.5 * p.calls(ActionKind::Load) + p.bytes(ActionKind::Load) / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Store), 0.25 * p.calls(ActionKind::Store) + p.bytes(ActionKind::Store) / 2e6);
}

TEST(ActionSeconds, CheckpointsAreCopiedOrTakeTheirLink) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) {
    c.config.number_checkpoints = -1;
    c.config.cpu_checkpointing = true;
  });
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  // Of the blocks all but the last begin with one. Each of up to four tensors begins at a boundary.
  const ZerothOrderCase& c = p.test;
  const int64_t input = num_bytes(ZerothOrderCase::kMicroBatch * c.sequence * c.model.n_embd, DType::F32),
                planned = input + 4 * kAlignmentBytes;
  const double bytes = static_cast<double>((c.model.n_layer - 1) * c.config.batch.accumulation_steps * planned);
  EXPECT_EQ(input % kAlignmentBytes, 0);
  for (const ActionKind kind : {ActionKind::Store, ActionKind::Load}) {
    EXPECT_EQ(p.bytes(kind), bytes);
    expect_near(p.seconds_of(m, kind), 2 * bytes / 1e6);
  }
  m = instant_machine();
  m.host_is_device = m.lanes_share_cores = false;
  m.device_to_host = {0.5, 1e6};
  m.host_to_device = {0.25, 2e6};
  expect_near(p.seconds_of(m, ActionKind::Store), 0.5 * p.calls(ActionKind::Store) + bytes / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Load), 0.25 * p.calls(ActionKind::Load) + bytes / 2e6);
}

// A rank alone gathers by copying, and takes the norm of its gradient where the ranks would agree.
TEST(ActionSeconds, ARankAloneCopies) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.zero.offload_param.tier = Tier::Host;
  });
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  const double gathered = p.sum([&](const Action& a) {
    return a.kind == ActionKind::Gather ? 2 * 4 * static_cast<double>(p.plan->layout.group(a.group).full_elements()) : 0;
  });
  EXPECT_GT(gathered, 0);
  expect_near(p.seconds_of(m, ActionKind::Gather), gathered / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Agree), 4 * p.trained(true) / 1e6);
}

TEST(ActionSeconds, MatricesAreMadeOfProducts) {
  const Planned p(Mode::FirstOrder, 2, [](ZerothOrderCase& c) { c.config.optimizer.type = OptimizerConfig::Type::Muon; });
  Machine m = instant_machine();
  m.gemm = {{DType::F32, 1, 1, 1e6}};
  const double flops = p.sum([](const Action& a) { return a.kind == ActionKind::MakeMatrixUpdates ? a.flops : 0; });
  EXPECT_GT(flops, 0);
  expect_near(p.seconds_of(m, ActionKind::MakeMatrixUpdates), flops / 1e6);
}

// An agreement on instructed directions draws all of them, and one on the blended estimate does again.
TEST(ActionSeconds, InstructionDrawsItsDirections) {
  const Planned p(Mode::Instruct, 1);
  Machine m = instant_machine();
  m.noise_elements_per_second = 1e3;
  const size_t instructed = p.plan->steps[0].kind.instructed ? 0 : 1;
  expect_near(p.seconds_of(m, ActionKind::Agree, instructed), 2 * 2 * p.trained(true) / 1e3);
  expect_near(p.seconds_of(m, ActionKind::Update, instructed), 2 * p.trained(true) / 1e3);
}

}  // namespace
}  // namespace zerostep::testing
