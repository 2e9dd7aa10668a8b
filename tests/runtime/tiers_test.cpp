#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <functional>

#include "base/host_name.h"
#include "runtime/engine/tier_options.h"
#include "runtime/plan/state_chunks.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/file_faults.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/expect_says.h"

// Where state rests changes where memory is taken, and no bit.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

constexpr Tiers kPlaces[] = {{Tier::Host, Tier::Device}, {Tier::Device, Tier::Host}, {Tier::Host, Tier::Host}, {Tier::File, Tier::Device},
                             {Tier::Device, Tier::File}, {Tier::File, Tier::File},   {Tier::Host, Tier::File}, {Tier::File, Tier::Host}};

void expect_same_outcome(const TrainingOutcome& found, const TrainingOutcome& resident) {
  EXPECT_EQ(found.losses, resident.losses);
  EXPECT_EQ(found.norms, resident.norms);
  EXPECT_EQ(found.parameters, resident.parameters);
  EXPECT_EQ(found.last.elements_gathered, resident.last.elements_gathered);
  EXPECT_EQ(found.last.elements_reduced, resident.last.elements_reduced);
}

TEST(Tiers, BackpropGivesTheSameBits) {
  for (const int stage : {1, 2, 3})
    for (const int ranks : {1, 2, 4})
      for (const bool accumulates : {false, true})
        for (const DType type : {DType::F32, DType::BF16, DType::F16}) {
          if (type == DType::F16 && (ranks != 2 || accumulates)) continue;  // whose loss is scaled
          TrainingCase test = TrainingCase::tiny();
          test.config.zero.stage = stage;
          test.config.zero.overlap_comm = stage == 3;
          test.config.zero.stage3_param_persistence_threshold = 20;
          test.config.zero.stage3_max_live_parameters = 1;
          test.config.precision.compute = type;
          test.set_micro_batch(accumulates ? 1 : 8 / ranks, ranks);
          const TrainingOutcome resident = run_engine_threads(test, ranks);
          const TierFolder folder;
          for (const Tiers& tiers : kPlaces) {
            if (stage < 3 && tiers.parameters != Tier::Device) continue;
            SCOPED_TRACE(fmt::format("stage {} ranks {} accumulates {} {} parameters on {} state on {}", stage, ranks, accumulates,
                                     name_of(type), name_of(tiers.parameters), name_of(tiers.state)));
            put(test.config, tiers, folder);
            const TrainingOutcome found = run_engine_threads(test, ranks);
            expect_same_outcome(found, resident);
            EXPECT_LT(found.measured_peak, resident.measured_peak);
          }
        }
}

// Whichever rank comes first removes what killed runs left, and that is said.
TEST(Tiers, AnyRankTellsOfTheFilesOfDeadRunsThatItRemoved) {
  constexpr int kNobody = 999999999;  // no process has this number
  for (const int rank : {0, 1}) {
    TrainingCase test = TrainingCase::tiny();
    const TierFolder folder;
    put(test.config, {Tier::File, Tier::File}, folder);
    std::ofstream(fmt::format("{}/zerostep_scratch_{}_{}_0_abcdef", folder.path, host_name(), kNobody)) << "x";
    ::testing::internal::CaptureStdout();
    { const ScratchFiles files(tier_options(test.config, rank).parameters, {{"parameters", 4096, 4096}}); }
    EXPECT_SAYS(::testing::internal::GetCapturedStdout(), "1 scratch file of runs that were killed was removed from " + folder.path);
  }
}

// What else says how state rests: each against the same run with everything on the device.
TEST(Tiers, EveryOptionGivesTheSameBits) {
  using Change = std::function<void(Config&)>;
  const std::vector<std::pair<const char*, Change>> changes = {
      {"one buffer, nothing ahead",
       [](Config& c) {
         c.zero.offload_param.buffer_count = c.zero.offload_optimizer.buffer_count = 1;
         c.zero.offload_optimizer.pipeline_read = c.zero.offload_optimizer.pipeline_write = false;
       }},
      {"some parameters in memory", [](Config& c) { c.zero.offload_param.max_in_cpu = 3000; }},
      {"half of the state", [](Config& c) { c.zero.offload_optimizer.ratio = 0.5; }},
      {"many chunks",
       [](Config& c) {
         c.zero.sub_group_size = 100;
         c.zero.offload_optimizer.buffer_count = 3;
       }},
      {"small requests, compared",
       [](Config& c) {
         c.aio.options.block_size = 4096;
         c.aio.options.queue_depth = 2;
         c.aio.verify = true;
       }},
      {"pageable", [](Config& c) { c.zero.offload_param.pin_memory = false; }},
      {"the smallest buckets", [](Config& c) { c.zero.reduce_bucket_size = 0; }},
      {"round robin", [](Config& c) { c.zero.round_robin_gradients = true; }},
      {"16-bit messages", [](Config& c) { c.communication_data_type = DType::BF16; }},
      {"frozen", [](Config& c) { c.model.trainable = {"*h.1*"}; }},
      {"gradients of their own", [](Config& c) { c.zero.contiguous_gradients = false; }}};
  for (const auto& [name, change] : changes)
    for (const int ranks : {1, 2})
      for (const DType type : {DType::F32, DType::BF16}) {
        SCOPED_TRACE(fmt::format("{}, {} ranks, {}", name, ranks, name_of(type)));
        TrainingCase test = TrainingCase::tiny();
        test.config.zero.stage = 3;
        test.config.zero.overlap_comm = true;
        test.config.zero.stage3_prefetch_bucket_size = 2000;
        test.config.precision.compute = type;
        test.set_micro_batch(2, ranks);
        change(test.config);
        const TrainingOutcome resident = run_engine_threads(test, ranks);
        const TierFolder folder;
        put(test.config, {Tier::File, Tier::File}, folder);
        expect_same_outcome(run_engine_threads(test, ranks), resident);
      }
}

// Matrices that are updated whole, several units together.
TEST(Tiers, WholeMatricesGiveTheSameBits) {
  for (const OptimizerConfig::Type type : {OptimizerConfig::Type::Muon, OptimizerConfig::Type::MuDaMW})
    for (const int stage : {1, 2, 3})
      for (const int ranks : {1, 2})
        for (const DType precision : {DType::F32, DType::BF16}) {
          SCOPED_TRACE(fmt::format("optimizer {}, stage {}, {} ranks, {}", static_cast<int>(type), stage, ranks, name_of(precision)));
          TrainingCase test = TrainingCase::tiny();
          test.config.optimizer.type = type;
          test.config.optimizer.cautious = type == OptimizerConfig::Type::MuDaMW;
          test.config.zero.stage = stage;
          test.config.precision.compute = precision;
          test.set_micro_batch(2, ranks);
          const TrainingOutcome resident = run_engine_threads(test, ranks);
          const TierFolder folder;
          test.config.zero.offload_optimizer.buffer_count = 2;
          put(test.config, {stage == 3 ? Tier::Host : Tier::Device, Tier::File}, folder);
          expect_same_outcome(run_engine_threads(test, ranks), resident);
        }
}

// Updates that wait for the next step, and an evaluation that cannot wait.
TEST(Tiers, DeferredUpdatesInFilesGiveTheSameBits) {
  for (const bool masters : {true, false})
    for (const DType type : {DType::F32, DType::BF16})
      for (const int ranks : {1, 2}) {
        if (!masters && type == DType::F32) continue;
        SCOPED_TRACE(fmt::format("masters {}, {}, {} ranks", masters, name_of(type), ranks));
        ZerothOrderCase test = ZerothOrderCase::tiny(Mode::ZerothOrder);
        test.config.zero.stage = 3;
        test.config.zero.overlap_comm = true;
        test.config.precision.compute = type;
        test.config.step.masters = masters;
        test.config.gradient_clipping = 0;
        const auto run = [&](Updates updates) {
          std::vector<double> losses(static_cast<size_t>(ranks));
          const auto evaluate = [&](int64_t step, Engine& engine) {
            if (step != 2) return;
            const Batch batch = test.batch(9, 0, engine.rank(), ranks);
            losses[static_cast<size_t>(engine.rank())] = engine.evaluate(1,
                                                                         [&](int64_t) {
                                                                           return Engine::EvaluationBatch{batch, true};
                                                                         })
                                                             .loss;
          };
          return std::pair{run_zeroth_order_threads(test, ranks, {.before_step = evaluate, .updates = updates}), losses};
        };
        const auto resident = run(Updates::Immediate);
        const TierFolder folder;
        put(test.config, {Tier::File, Tier::File}, folder);
        const auto deferred = run(Updates::Deferred);
        expect_same(deferred.first, resident.first);
        EXPECT_EQ(deferred.second, resident.second);
      }
}

TEST(Tiers, CheckpointsOfActivationsOnTheHostGiveTheSameBits) {
  for (const int64_t segments : {int64_t{-1}, int64_t{2}, int64_t{1}})
    for (const int stage : {0, 2, 3})
      for (const DType type : {DType::F32, DType::BF16}) {
        const int ranks = stage == 0 ? 1 : 2, micro_batch = stage == 2 ? 4 : 2;
        SCOPED_TRACE(fmt::format("{} segments, stage {}, {}", segments, stage, name_of(type)));
        TrainingCase test = TrainingCase::tiny();
        test.model.n_layer = 6;
        test.config.zero.stage = stage;
        test.config.precision.compute = type;
        test.config.number_checkpoints = segments;
        test.set_micro_batch(micro_batch, ranks);
        test.config.data.sequence_length = test.sequence;
        const TrainingOutcome on_device = run_engine_threads(test, ranks);
        test.config.cpu_checkpointing = true;
        const TrainingOutcome on_host = run_engine_threads(test, ranks);
        expect_same_outcome(on_host, on_device);
        // The last segment keeps its graph. Of the five others two have a slot on the device.
        if (segments < 0) {
          EXPECT_LT(on_host.measured_peak, on_device.measured_peak);
          EXPECT_LT(on_host.planned_peak, on_device.planned_peak);
        }
        EXPECT_LE(static_cast<double>(on_host.measured_peak), 1.02 * static_cast<double>(on_host.planned_peak));
      }
}

TEST(Tiers, QueriesGiveTheSameBits) {
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {2, 3})
      for (const int ranks : {1, 2})
        for (const DType type : {DType::F32, DType::BF16}) {
          ZerothOrderCase test = ZerothOrderCase::tiny(mode);
          test.config.zero.stage = stage;
          test.config.zero.overlap_comm = true;
          test.config.zero.stage3_param_persistence_threshold = 40;
          test.config.precision.compute = type;
          test.config.step.exact_norm = mode == Mode::ZerothOrder;
          const ZerothOrderOutcome resident = run_zeroth_order_threads(test, ranks);
          const TierFolder folder;
          for (const Tiers& tiers : kPlaces) {
            if (stage < 3 && tiers.parameters != Tier::Device) continue;
            SCOPED_TRACE(fmt::format("mode {} stage {} ranks {} {} parameters on {} state on {}", static_cast<int>(mode), stage, ranks,
                                     name_of(type), name_of(tiers.parameters), name_of(tiers.state)));
            put(test.config, tiers, folder);
            expect_same(run_zeroth_order_threads(test, ranks), resident);
          }
        }
}

// Between steps, too, a chunk is read once for all that is wanted of it, however many slices a parameter lies in.
TEST(Tiers, ReadingAParameterReadsEachChunkOnce) {
  ZerothOrderCase test = case_in_files(Mode::FirstOrder);
  test.config.precision.compute = DType::BF16;
  test.config.zero.reduce_bucket_size = 0;
  test.config.aio.options.block_size = int64_t{1} << 20;
  const TierFolder folder;
  put(test.config, {Tier::File, Tier::File}, folder);
  test.share_over(2);
  run_local_ranks(2, {.timeout_seconds = 60}, [&](Communicator world) {
    std::atomic<int> reads = 0;
    ZerothOrderCase own = test;
    own.config.aio.options.make_queue = faulty_queues(QueueKind::Threads, [&](Faults& f) {
      f.answer = [&](int, const IoRequest& request) {
        reads += request.is_write ? 0 : 1;
        return std::nullopt;
      };
    });
    run_zeroth_order(own, world, {.before_step = [&](int64_t, Engine& engine) {
                       const ModelLayout& layout = engine.plan().layout;
                       const Plan& plan = engine.plan().any_step();
                       for (int u = 0; u < std::ssize(layout.units); ++u)
                         for (int p = 0; p < std::ssize(layout.unit(u).parameters); ++p) {
                           std::vector<float> values;
                           reads = 0;
                           engine.read_parameter(u, p, values);
                           const FlatGroup& group = layout.group(layout.place(u, p).group);
                           const StateChunks chunks = state_chunks(group, plan);
                           EXPECT_LE(reads, chunks.has_masters ? chunks.count : 1)
                               << layout.unit(u).parameters[static_cast<size_t>(p)].name;
                         }
                     }});
  });
}

}  // namespace
}  // namespace zerostep::testing
