#include "base/signal_name.h"

#include <gtest/gtest.h>

#include <csignal>

namespace zerostep {
namespace {

TEST(SignalNames, AreThoseOfTheSystemsHeaders) {
  EXPECT_EQ(name_of_signal(SIGTERM), "SIGTERM");
  EXPECT_EQ(name_of_signal(SIGUSR1), "SIGUSR1");
  EXPECT_EQ(name_of_signal(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(name_of_signal(40), "signal 40");  // of those that are free for any use
}

}  // namespace
}  // namespace zerostep
