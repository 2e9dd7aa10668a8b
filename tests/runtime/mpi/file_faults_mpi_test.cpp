#include <gtest/gtest.h>

#include <chrono>
#include <regex>

#include "base/error.h"
#include "sharding/mpi_session.h"
#include "tests/mpi_main.h"
#include "tests/runtime/support/file_faults.h"

namespace zerostep::testing {
namespace {

// A disk that fails on one rank ends all of them with its message.
TEST(MpiFileFaults, OneRanksErrorEndsAll) {
  ASSERT_GT(test::mpi_session().size(), 1) << "run it with mpirun";
  for (const MpiPath path : {MpiPath::Auto, MpiPath::Plain})
    for (const StepConfig::Mode mode : {StepConfig::Mode::FirstOrder, StepConfig::Mode::ZerothOrder})
      for (const FaultCase& fault : fault_cases()) {
        Communicator world = make_mpi_communicator(test::mpi_session(), {.timeout_seconds = 120}, path);
        ZerothOrderCase test = case_in_files(mode);
        test.share_over(world.size());
        const TierFolder folder;
        put(test.config, {Tier::File, Tier::File}, folder);
        const auto start = std::chrono::steady_clock::now();
        std::string said;
        try {
          run_with_fault(test, world, QueueKind::Threads, fault);
        } catch (const RunError& error) {
          said = error.what();
          world.abort(said);
        }
        const int last = world.size() - 1;
        if (world.rank() == last) {
          EXPECT_TRUE(std::regex_match(said, std::regex(message_of(fault, last, folder)))) << said;
        } else {
          EXPECT_NE(said.find(fmt::format("[file tier] rank {}: chunk ", last)), std::string::npos) << said;
        }
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << "waited for the time-out";
      }
}

}  // namespace
}  // namespace zerostep::testing
