#include "base/core_set.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

namespace zerostep {
namespace {

// As the kernel writes them: "0-3,8".
std::vector<int> listed_cores() {
  constexpr std::string_view kName = "Cpus_allowed_list:";
  std::ifstream status("/proc/self/status");
  std::vector<int> out;
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kName)) continue;
    std::istringstream parts(line.substr(kName.size()));
    for (std::string part; std::getline(parts, part, ',');) {
      const int first = std::stoi(part), last = part.find('-') == part.npos ? first : std::stoi(part.substr(part.find('-') + 1));
      for (int core = first; core <= last; ++core) out.push_back(core);
    }
  }
  return out;
}

TEST(CoreSet, AThreadIsBoundToTheCoresThatItNames) {
  const std::vector<int> all = CoreSet::of_process();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all, listed_cores());
  std::thread([&] {
    // A core beyond 1,024 that is not there is left out, and so is one of a number that has the same bit in a set of that size.
    EXPECT_TRUE(CoreSet({all.back(), 1024 * 700 + all.front()}).bind_thread());
    EXPECT_EQ(CoreSet::of_process(), std::vector<int>{all.back()});
    EXPECT_FALSE(CoreSet({1024 * 700 + all.back()}).bind_thread());
    EXPECT_EQ(CoreSet::of_process(), std::vector<int>{all.back()});
  }).join();
  EXPECT_EQ(CoreSet::of_process(), all);
}

}  // namespace
}  // namespace zerostep
