#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <string>
#include <vector>

#include "base/error.h"
#include "fake_gpu/counted_waits.h"
#include "runtime/plan/cost.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/file_faults.h"
#include "tests/runtime/support/tier_folder.h"
#include "tests/runtime/support/zeroth_order_case.h"

// What training takes of the fake GPU against the plan, and state that rests elsewhere.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;
using Perturbation = StepConfig::Perturbation;

ZerothOrderCase case_of(Mode mode, DType type, int world = 1) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.config.run.device = "cuda";
  test.config.precision.compute = type;
  test.config.gradient_clipping = 0;
  test.global_batch = ZerothOrderCase::kMicroBatch * world;
  return test;
}

// Bytes that LibTorch is asked for are counted, whatever it takes for them. A plan is an upper bound, recomputation and queries stay
// within 6 % of it (docs/plan.md).
TEST(CudaMemory, IsWhatWasPlanned) {
  struct Kind {
    const char* name;
    Mode mode;
    Perturbation perturbation = Perturbation::Gaussian;
    bool recomputes = false;
  };
  for (const Kind& kind : {Kind{"fo", Mode::FirstOrder}, Kind{"recompute", Mode::FirstOrder, Perturbation::Gaussian, true},
                           Kind{"gaussian", Mode::ZerothOrder}, Kind{"low_rank", Mode::ZerothOrder, Perturbation::LowRank}})
    for (const int64_t length : {64, 1024})
      for (const DType type : {DType::F32, DType::BF16}) {
        if (length == 1024 && (kind.recomputes || (kind.mode == Mode::ZerothOrder && type == DType::F32))) continue;  // takes seconds
        ZerothOrderCase test = case_of(kind.mode, type);
        test.model.n_layer = 2;
        test.model.n_embd = 64, test.model.n_head = 4, test.model.n_inner = 256, test.model.vocab_size = 257;
        test.model.n_positions = test.sequence = length;
        test.config.step.query_sequence_length = test.config.data.sequence_length = length;
        test.config.step.perturbation = kind.perturbation;
        test.config.number_checkpoints = kind.recomputes ? -1 : 0;
        test.config.zero.stage = 3;
        test.steps = 2;
        int64_t arenas = 0;
        const auto look = [&](int64_t, Engine& engine) {
          arenas = engine.arena_bytes();  // the scratch of kernels is there before the first step
          const Plan& plan = engine.plan().any_step();
          EXPECT_EQ(arenas, plan.device_arena_bytes() + kernel_scratch(test.config, plan.options).num_bytes());
        };
        const ZerothOrderOutcome out = run_zeroth_order_threads(test, 1, {.before_step = look, .device = Device::cuda(0)});
        const auto planned = static_cast<double>(out.planned_peak - arenas), measured = static_cast<double>(out.measured_peak - arenas);
        EXPECT_LE(measured, planned) << kind.name << ", " << length << " tokens, " << name_of(type);
        EXPECT_GE(measured, 0.94 * planned) << kind.name << ", " << length << " tokens, " << name_of(type);
      }
}

TEST(CudaTiers, GiveTheBitsOfTheDevice) {
  // Clipped updates of backprop wait for the next step, others in fp32 stand in the backward.
  for (const auto& [mode, clipping] : {std::pair{Mode::FirstOrder, 0.0}, {Mode::FirstOrder, 0.1}, {Mode::ZerothOrder, 0.0}})
    for (const int ranks : {1, 2})
      for (const DType type : {DType::F32, DType::BF16}) {
        if ((ranks == 1) == (type == DType::BF16)) continue;
        ZerothOrderCase test = case_of(mode, type, ranks);
        test.config.gradient_clipping = clipping;
        test.config.zero.stage = 3;
        test.config.zero.overlap_comm = true;
        test.config.zero.stage3_max_live_parameters = 1;
        EngineSetup setup{.device_of_rank = [](int rank) { return Device::cuda(rank); }, .updates = {}};
        count_waits(test, ranks, setup);
        const ZerothOrderOutcome resident = run_zeroth_order_threads(test, ranks, setup);
        const TierFolder folder;
        for (const Tiers& tiers : {Tiers{Tier::Host, Tier::Host}, Tiers{Tier::Device, Tier::Host}, Tiers{Tier::Host, Tier::Device},
                                   Tiers{Tier::File, Tier::File}}) {
          SCOPED_TRACE(fmt::format("{}, clipping {}, {} ranks, {}, parameters on {}, state on {}", test.name(), clipping, ranks,
                                   name_of(type), name_of(tiers.parameters), name_of(tiers.state)));
          put(test.config, tiers, folder);
          const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, setup);
          EXPECT_EQ(found.losses, resident.losses);
          EXPECT_EQ(found.scalars, resident.scalars);
          EXPECT_EQ(found.parameters, resident.parameters);
          EXPECT_LT(found.measured_peak, resident.measured_peak);
        }
      }
}

// What a GPU updates and rests elsewhere is updated where it has come for the queries: each byte crosses once each way in a step.
TEST(CudaTiers, CrossOnceEachWay) {
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::LowRank})
    for (const int ranks : {1, 2})
      for (const DType type : {DType::F32, DType::BF16}) {
        if ((ranks == 1) == (type == DType::BF16) && perturbation == Perturbation::Gaussian) continue;
        if ((ranks == 1) == (type == DType::F32) && perturbation == Perturbation::LowRank) continue;
        ZerothOrderCase test = case_of(Mode::ZerothOrder, type, ranks);
        test.config.step.perturbation = perturbation;
        test.config.step.masters = false;
        test.config.step.queries = 4;
        if (perturbation == Perturbation::LowRank) test.config.step.queries_per_pass = 4;  // what its products depend on
        test.config.optimizer.type = OptimizerConfig::Type::SGD;
        test.config.optimizer.momentum = 0;
        test.config.zero.stage = 3;
        test.config.zero.overlap_comm = true;
        test.config.zero.stage3_prefetch_bucket_size = 3500;
        test.config.zero.stage3_max_live_parameters = 5000;
        EngineSetup setup{.device_of_rank = [](int rank) { return Device::cuda(rank); }, .updates = {}};
        const ZerothOrderOutcome resident = run_zeroth_order_threads(test, ranks, setup);
        const TierFolder folder;
        for (const Tier tier : {Tier::Host, Tier::File}) {
          SCOPED_TRACE(fmt::format("{}, {} ranks, {}, parameters on {}", test.name(), ranks, name_of(type), name_of(tier)));
          put(test.config, {tier, Tier::Device}, folder);
          setup.before_step = [&](int64_t, Engine& engine) {
            const Plan& plan = engine.plan().steps.front().plan;
            const ModelLayout& layout = engine.plan().layout;
            std::map<int, int64_t> up, down, at_rest, of_units;
            for (const Action& a : plan.actions) {
              const bool brings = a.kind == ActionKind::BringShard || (a.kind == ActionKind::Gather && !a.has_shard);
              if (brings) up[a.group] += num_bytes(layout.group(a.group).shard_elements(), layout.group(a.group).type);
              if (a.kind == ActionKind::ReturnShard) down[a.group] += a.bytes;
              EXPECT_TRUE(a.kind != ActionKind::Update || a.slot >= 0);
            }
            for (const FlatGroup& g : layout.groups) at_rest[g.id] = num_bytes(g.shard_elements(), g.type);
            for (int u = 0; u < std::ssize(layout.units); ++u)  // the head has the embedding's weights
              for (const int g : layout.used_by(u)) of_units[g] += at_rest[g];
            for (const auto& [g, bytes] : at_rest) {
              EXPECT_GE(up[g], bytes);
              EXPECT_LE(up[g], of_units[g]);
            }
            EXPECT_EQ(down, at_rest);
          };
          const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, setup);
          setup.before_step = {};
          EXPECT_EQ(found.losses, resident.losses);
          EXPECT_EQ(found.scalars, resident.scalars);
          EXPECT_EQ(found.parameters, resident.parameters);
          EXPECT_EQ(found.queries_per_pass, 4);
          if (perturbation == Perturbation::Gaussian) {  // else kernels take more for a second stream than the small model
            EXPECT_LT(found.measured_peak, resident.measured_peak);
          }
        }
      }
}

// A GPU's host does not wait for files at the end of a step: what fails there is told with the step that it is of, by the next one that
// waits or by whoever looks at the state.
TEST(CudaTiers, AFailedFileIsToldWithItsStep) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const FaultCase& fault : fault_cases())
      for (const int ranks : {1, 2}) {
        if (fault.result == 0 && !fault.is_refused) continue;  // it takes its time
        SCOPED_TRACE(fmt::format("{}, {}, {} ranks", static_cast<int>(mode), fault.said, ranks));
        ZerothOrderCase test = case_in_files(mode);
        test.config.run.device = "cuda";
        test.share_over(ranks);
        const TierFolder folder;
        put(test.config, {Tier::File, Tier::File}, folder);
        std::string said;
        try {
          run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
            run_with_fault(test, world, queue_kinds().front(), fault, Device::cuda(world.rank()));  // of the last rank
          });
        } catch (const RunError& error) {
          said = error.what();
        }
        EXPECT_TRUE(std::regex_match(said, std::regex(message_of(fault, ranks - 1, folder, 0)))) << said;
      }
}

}  // namespace
}  // namespace zerostep::testing
