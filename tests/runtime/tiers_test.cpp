#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/runtime/support/zeroth_order_case.h"

// Where state rests changes where memory is taken, and no bit.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct Tiers {
  Tier parameters, state;
};
constexpr Tiers kPlaces[] = {{Tier::Host, Tier::Device}, {Tier::Device, Tier::Host}, {Tier::Host, Tier::Host}, {Tier::File, Tier::Device},
                             {Tier::Device, Tier::File}, {Tier::File, Tier::File},   {Tier::Host, Tier::File}, {Tier::File, Tier::Host}};

// A folder of its own, which must be empty again in the end.
class Folder {
 public:
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() {
    EXPECT_TRUE(std::filesystem::is_empty(path));
    std::filesystem::remove_all(path);
  }
  const std::string path = fmt::format("{}/tiers-{}", ::testing::TempDir(), getpid());
};

void put(Config& config, const Tiers& tiers, const Folder& folder) {
  config.zero.offload_param.tier = tiers.parameters;
  config.zero.offload_optimizer.tier = tiers.state;
  config.zero.offload_param.nvme_paths = config.zero.offload_optimizer.nvme_paths = {folder.path};
}

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
        for (const DType type : {DType::F32, DType::BF16}) {
          TrainingCase test = TrainingCase::tiny();
          test.config.zero.stage = stage;
          test.config.zero.overlap_comm = stage == 3;
          test.config.zero.stage3_param_persistence_threshold = 20;
          test.config.zero.stage3_max_live_parameters = 1;
          test.config.precision.compute = type;
          test.set_micro_batch(accumulates ? 1 : 8 / ranks, ranks);
          const TrainingOutcome resident = run_engine_threads(test, ranks);
          const Folder folder;
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

TEST(Tiers, QueriesGiveTheSameBits) {
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {2, 3})
      for (const int ranks : {1, 2})
        for (const DType type : {DType::F32, DType::BF16}) {
          ZerothOrderCase test = ZerothOrderCase::tiny(mode);
          test.config.zero.stage = stage;
          test.config.zero.overlap_comm = true;
          test.config.precision.compute = type;
          const ZerothOrderOutcome resident = run_zeroth_order_threads(test, ranks);
          const Folder folder;
          for (const Tiers& tiers : kPlaces) {
            if (stage < 3 && tiers.parameters != Tier::Device) continue;
            SCOPED_TRACE(fmt::format("mode {} stage {} ranks {} {} parameters on {} state on {}", static_cast<int>(mode), stage, ranks,
                                     name_of(type), name_of(tiers.parameters), name_of(tiers.state)));
            put(test.config, tiers, folder);
            expect_same(run_zeroth_order_threads(test, ranks), resident);
          }
        }
}

}  // namespace
}  // namespace zerostep::testing
