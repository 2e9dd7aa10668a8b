#include "tests/mpi_main.h"

#include <gtest/gtest.h>

#include <iostream>
#include <memory>

#include "sharding/comm/mpi_state.h"
#include "sharding/mpi_session.h"

namespace zerostep::test {
namespace {

std::unique_ptr<MpiSession> session;

// Rank 0 prints the course of the tests; the others print what fails.
class FailuresOnly : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::cout << "rank " << session->rank() << ": " << (result.file_name() ? result.file_name() : "?") << ":" << result.line_number()
              << "\n"
              << result.message() << std::endl;
  }
  void OnTestEnd(const testing::TestInfo& info) override {
    if (info.result()->Failed())
      std::cout << "rank " << session->rank() << ": FAILED " << info.test_suite_name() << "." << info.name() << std::endl;
  }
};

}  // namespace

const MpiSession& mpi_session() { return *session; }

}  // namespace zerostep::test

int main(int argc, char** argv) {
  using zerostep::test::session;
  testing::InitGoogleTest(&argc, argv);
  session = std::make_unique<zerostep::MpiSession>(&argc, &argv);
  if (session->rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new zerostep::test::FailuresOnly);
  }
  int result = RUN_ALL_TESTS();
  // Tests of lost ranks lose none: every process is here, so MPI can end in order, with one status for all.
  session->state()->lost_a_rank = false;
  if (session->state()->started) MPI_Allreduce(MPI_IN_PLACE, &result, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  session.reset();
  return result;
}
