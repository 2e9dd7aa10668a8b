#include <gtest/gtest.h>

#include "sharding/mpi_session.h"
#include "tests/mpi_main.h"
#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct MpiCase {
  Mode mode;
  int stage;
  int64_t groups;
  MpiPath path;
};

std::string name_of_case(const ::testing::TestParamInfo<MpiCase>& info) {
  const MpiCase& c = info.param;
  return fmt::format("{}_stage{}_groups{}_{}", ZerothOrderCase::tiny(c.mode).config.step.mode_name, c.stage, c.groups,
                     c.path == MpiPath::Plain ? "messages" : "shared");
}

class MpiZerothOrder : public ::testing::TestWithParam<MpiCase> {};

// Processes under mpirun give what the plain loop gives, through shared memory and through messages.
TEST_P(MpiZerothOrder, IsThePlainLoop) {
  const MpiCase& c = GetParam();
  Communicator world = make_mpi_communicator(test::mpi_session(), {.timeout_seconds = 60}, c.path);
  ZerothOrderCase test = ZerothOrderCase::tiny(c.mode);
  test.config.zero.stage = c.stage;
  test.config.zero.overlap_comm = c.stage == 3;
  const ZerothOrderOutcome reference = run_zeroth_order_reference(test);
  test.config.step.direction_parallel = c.groups;
  test.share_over(world.size());
  const ZerothOrderOutcome engine = run_zeroth_order(test, world);
  expect_like(engine, reference, test);
  EXPECT_EQ(engine.last.elements_gathered, engine.planned_gathered);
  EXPECT_EQ(engine.last.elements_reduced, engine.planned_reduced);
}

std::vector<MpiCase> all_cases() {
  std::vector<MpiCase> out;
  for (const MpiPath path : {MpiPath::Auto, MpiPath::Plain}) {
    for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Alternating}) out.push_back({mode, 3, 1, path});
    out.push_back({Mode::ZerothOrder, 0, 1, path});
    out.push_back({Mode::ZerothOrder, 3, 2, path});
  }
  return out;
}
INSTANTIATE_TEST_SUITE_P(All, MpiZerothOrder, ::testing::ValuesIn(all_cases()), name_of_case);

}  // namespace
}  // namespace zerostep::testing
