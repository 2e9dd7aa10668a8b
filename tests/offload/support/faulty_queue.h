#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "offload/io/io_queue.h"

namespace zerostep::testing {

// What a FaultyQueue does to the queue that it stands before, and what it has seen of it.
struct Faults {
  // The completion of the n-th request (from 0) in place of the system's, which then does not see the request; or nothing.
  std::function<std::optional<int64_t>(int n, const IoRequest& request)> answer = nullptr;
  // How much of the n-th request the system is asked for.
  std::function<int64_t(int n, const IoRequest& request)> shorten = nullptr;
  int delay_milliseconds = 0;  // before completions are given out
  bool is_reordered = false;   // completions wait for all others in flight and come in reverse order
  int num_lost_after = -1;     // from this request on none is completed
  int num_refused_after = -1;  // from this request on the queue throws

  int num_requests = 0, num_in_flight = 0, max_in_flight = 0;
  std::vector<int> submitted = {};         // requests of each call that has any
  std::vector<int> in_flight_before = {};  // each of these calls
  std::vector<IoRequest> requests = {};
};

class FaultyQueue final : public IoQueue {
 public:
  FaultyQueue(std::shared_ptr<Faults> faults, std::unique_ptr<IoQueue> queue) : faults_(std::move(faults)), queue_(std::move(queue)) {}

  std::string name() const override { return queue_->name(); }

  void submit(std::span<const IoRequest> requests) override {
    Faults& f = *faults_;
    if (!requests.empty()) f.submitted.push_back(static_cast<int>(requests.size())), f.in_flight_before.push_back(f.num_in_flight);
    std::vector<IoRequest> passed;
    for (IoRequest request : requests) {
      const int n = f.num_requests++;
      f.requests.push_back(request);
      if (f.num_refused_after >= 0 && n >= f.num_refused_after) fail_run("this queue takes no more");
      f.max_in_flight = std::max(f.max_in_flight, ++f.num_in_flight);
      if (f.num_lost_after >= 0 && n >= f.num_lost_after) continue;
      if (const auto result = f.answer ? f.answer(n, request) : std::nullopt) {
        ready_.push_back({request.slot, *result});
        continue;
      }
      if (f.shorten) request.num_bytes = f.shorten(n, request);
      passed.push_back(request);
    }
    num_passed_ += static_cast<int>(passed.size());
    queue_->submit(passed);
  }

  std::vector<IoCompletion> wait(double seconds) override {
    Faults& f = *faults_;
    std::this_thread::sleep_for(std::chrono::milliseconds(f.delay_milliseconds));
    do {
      if (num_passed_ == 0 && !ready_.empty()) break;
      const auto more = queue_->wait(ready_.empty() ? seconds : 10);
      num_passed_ -= static_cast<int>(more.size());
      ready_.insert(ready_.end(), more.begin(), more.end());
    } while (f.is_reordered && num_passed_ > 0);
    f.num_in_flight -= static_cast<int>(ready_.size());
    if (f.is_reordered) std::reverse(ready_.begin(), ready_.end());
    return std::exchange(ready_, {});
  }

 private:
  std::shared_ptr<Faults> faults_;
  std::unique_ptr<IoQueue> queue_;
  std::vector<IoCompletion> ready_;
  int num_passed_ = 0;
};

}  // namespace zerostep::testing
