#include "sharding/comm/peer_process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

namespace zerostep {
namespace {

std::string replaced(std::string text, const std::string& part, const std::string& by) {
  const size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << "'" << part << "' in '" << text << "'";
  return at == std::string::npos ? text : text.replace(at, part.size(), by);
}

// A child that has ended, and what it would have said of itself.
std::string introduction_of_an_ended_process(bool reaped) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | (reaped ? 0 : WNOWAIT));
  return replaced(PeerProcess::introduce_myself(), std::to_string(getpid()), std::to_string(child));
}

TEST(PeerProcess, IsAliveUntilItEnds) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  PeerProcess peer(replaced(PeerProcess::introduce_myself(), std::to_string(getpid()), std::to_string(child)));
  EXPECT_TRUE(peer.is_alive());
  kill(child, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_FALSE(peer.is_alive());  // a zombie
  PeerProcess moved(std::move(peer));
  EXPECT_FALSE(moved.is_alive());
  waitpid(child, nullptr, 0);
}

TEST(PeerProcess, OneThatEndedBeforeItCouldBeWatchedIsDead) {
  EXPECT_FALSE(PeerProcess(introduction_of_an_ended_process(false)).is_alive());
  EXPECT_FALSE(PeerProcess(introduction_of_an_ended_process(true)).is_alive());
}

TEST(PeerProcess, OneOfAnotherHostIsNotSoughtHere) {
  const std::string ended = introduction_of_an_ended_process(true);
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  const PeerProcess other_name(replaced(ended, std::string(" ") + host + " ", " elsewhere "));
  EXPECT_TRUE(other_name.is_alive());
  EXPECT_EQ(other_name.host(), "elsewhere");
  // Machines may have one name, and the PID namespaces of all of them one number.
  std::string start;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> start;
  const PeerProcess same_name(replaced(ended, start, "00000000-0000-4000-8000-000000000000"));
  EXPECT_TRUE(same_name.is_alive());
  EXPECT_EQ(same_name.host(), host);
}

}  // namespace
}  // namespace zerostep
