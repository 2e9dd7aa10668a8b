#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

namespace zerostep::testing {

// As long as one lives, this process is not root, who may read everything.
class AsNobody {
 public:
  AsNobody() {
    constexpr uid_t kNobody = 65534;
    if (user_ == 0) {
      EXPECT_EQ(::seteuid(kNobody), 0);
    }
  }
  ~AsNobody() {
    if (user_ == 0) {
      EXPECT_EQ(::seteuid(user_), 0);
    }
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  const uid_t user_ = ::geteuid();
};

}  // namespace zerostep::testing
