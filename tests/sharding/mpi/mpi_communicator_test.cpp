#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "sharding/comm/core_share.h"
#include "sharding/comm/mpi_plain.h"
#include "sharding/mpi_session.h"
#include "tests/mpi_main.h"
#include "tests/sharding/support/communicator_cases.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using test::mpi_session;
using testing::message_of;

// How the ranks of this program meet: shared memory, messages, and messages in small pieces.
enum class Way { Shared, Messages, SmallMessages };
const char* name_of(Way way) { return way == Way::Shared ? "Shared" : way == Way::Messages ? "Messages" : "SmallMessages"; }

Communicator world_of(Way way, double timeout_seconds = 60) {
  if (way == Way::SmallMessages)
    return Communicator(make_plain_mpi_communicator(mpi_session(), {.timeout_seconds = timeout_seconds},
                                                    {.max_message_bytes = 9000, .reduce_bytes = 30000}));
  return make_mpi_communicator(mpi_session(), {.timeout_seconds = timeout_seconds}, way == Way::Shared ? MpiPath::Auto : MpiPath::Plain);
}

class MpiCommunicator : public ::testing::TestWithParam<std::tuple<test::CommunicatorCase, Way>> {};

TEST_P(MpiCommunicator, Does) {
  const auto& [test_case, way] = GetParam();
  Communicator world = world_of(way);
  ASSERT_EQ(world.size(), mpi_session().size());
  ASSERT_EQ(world.rank(), mpi_session().rank());
  EXPECT_FALSE(world.shares_process());
  if (world.size() > 1) {
    ASSERT_STREQ(world.backend(), way == Way::Shared ? "mpi (shared memory)" : "mpi");
  }
  test_case.body(world);
}

INSTANTIATE_TEST_SUITE_P(Cases, MpiCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()),
                                            ::testing::Values(Way::Shared, Way::Messages, Way::SmallMessages)),
                         [](const auto& info) { return std::get<0>(info.param).name + name_of(std::get<1>(info.param)); });

class MpiFailure : public ::testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, MpiFailure, ::testing::Values(Way::Shared, Way::Messages),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(MpiFailure, ASilentRankIsNamedAfterTheTimeOut) {
  Communicator end = world_of(GetParam()), world = world_of(GetParam(), 0.5);
  ASSERT_GT(world.size(), 1) << "run it with mpirun";
  Stream stream = Stream::worker("communication"), other = Stream::inline_stream();
  end.barrier(other, "start of test").wait();
  if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  std::vector<float> data(3000 * static_cast<size_t>(world.size()));
  const Segment segment{data.data(), data.data() + 3000 * world.rank(), 3000};
  const std::string error = message_of<RunError>([&] {
    world.reduce_scatter({&segment, 1}, DType::F32, DType::F32, false, stream, "h.3").wait();
  });
  // Rank 1 learns what the others have said.
  EXPECT_NE(error.find("rank 1 has not arrived at reduce-scatter of 'h.3' (3,000 elements of fp32) for 0."), std::string::npos) << error;
  end.barrier(other, "end of test").wait();
}

TEST_P(MpiFailure, ASilentRankIsNamedInAnExchange) {
  Communicator end = world_of(GetParam()), world = world_of(GetParam(), 0.3);
  ASSERT_GT(world.size(), 1) << "run it with mpirun";
  Stream stream = Stream::worker("communication"), other = Stream::inline_stream();
  end.barrier(other, "start of test").wait();
  if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(700));
  std::vector<float> source(3000), target(3000);
  const Transfer transfer{0, 1, source.data(), target.data(), 3000};
  const std::string error = message_of<RunError>([&] { world.exchange({&transfer, 1}, DType::F32, stream, "h.3").wait(); });
  EXPECT_NE(error.find("rank 1 has not arrived at exchange of 'h.3' (3,000 elements of fp32) for 0."), std::string::npos) << error;
  end.barrier(other, "end of test").wait();
}

TEST_P(MpiFailure, ARankThatThrowsWakesTheOthersAtOnce) {
  Communicator world = world_of(GetParam());
  ASSERT_GT(world.size(), 1) << "run it with mpirun";
  Communicator end = world_of(GetParam());
  Stream last = Stream::inline_stream();
  const auto start = std::chrono::steady_clock::now();
  try {
    Stream stream = Stream::worker("communication");
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      throw RunError("unit 'h.1' is broken");
    }
    double value = 1;
    world.all_reduce_scalars({&value, 1}, ReduceOp::Sum, "loss");
    ADD_FAILURE() << "the sum cannot be complete";
  } catch (const PeerError& error) {
    EXPECT_NE(world.rank(), 1);
    EXPECT_NE(std::string(error.what()).find("rank 1 has failed: unit 'h.1' is broken"), std::string::npos) << error.what();
  } catch (const RunError& error) {
    EXPECT_EQ(world.rank(), 1);
    world.abort(error.what());
  }
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 5);
  end.barrier(last, "end of test").wait();
}

TEST(MpiPaths, TheEnvironmentForcesMessages) {
  setenv("ZEROSTEP_COMM", "mpi", 1);
  EXPECT_STREQ(make_mpi_communicator(mpi_session(), {}).backend(), "mpi");
  setenv("ZEROSTEP_COMM", "carrier pigeon", 1);
  EXPECT_THROW(make_mpi_communicator(mpi_session(), {}), InputError);
  unsetenv("ZEROSTEP_COMM");
}

TEST(MpiPaths, MessagesServeWhereMemoryCannotBeShared) {
  setenv("ZEROSTEP_SHM_DIR", "/no/such/directory", 1);
  Communicator world = make_mpi_communicator(mpi_session(), {});
  unsetenv("ZEROSTEP_SHM_DIR");
  EXPECT_STREQ(world.backend(), "mpi");
  double value = world.rank() + 1;
  world.all_reduce_scalars({&value, 1}, ReduceOp::Sum, "sum");
  EXPECT_EQ(value, world.size() * (world.size() + 1) / 2);
}

TEST(MpiSession, KnowsTheRanksOfThisHost) {
  EXPECT_EQ(mpi_session().local_size(), mpi_session().size());
  EXPECT_EQ(mpi_session().local_rank(), mpi_session().rank());
  // Every rank may use every core (--bind-to none).
  EXPECT_EQ(mpi_session().cores(), std::max(1, share_of_cores({allowed_cores()}, 0) / mpi_session().size()));
}

}  // namespace
}  // namespace zerostep
