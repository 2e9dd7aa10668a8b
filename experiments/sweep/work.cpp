#include "experiments/sweep/work.h"

#include <chrono>
#include <csignal>

namespace zerostep {
namespace {

class LocalWork : public Work {
 public:
  explicit LocalWork(const ProcessRequest& request) : process_(request) {}
  bool has_begun() override { return true; }
  std::optional<int> ended() override { return process_.ended(); }
  void stop() override { process_.send(SIGUSR1); }
  void kill() override {
    constexpr std::chrono::seconds kGrace{10};  // from SIGTERM to SIGKILL
    if (!asked_) process_.send_to_group(SIGTERM);
    if (asked_ && std::chrono::steady_clock::now() - *asked_ > kGrace) process_.send_to_group(SIGKILL);
    if (!asked_) asked_ = std::chrono::steady_clock::now();
  }

 private:
  Process process_;
  std::optional<std::chrono::steady_clock::time_point> asked_;
};

}  // namespace

std::unique_ptr<Work> make_local_work(const ProcessRequest& request) { return std::make_unique<LocalWork>(request); }

}  // namespace zerostep
