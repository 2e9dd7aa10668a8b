#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "tests/runtime/support/cpu_like_device.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Where the host waits: on a device whose compute stream does nothing until it does.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

// Keeps what it gets until its owner synchronises, who then runs it; others may wait meanwhile.
class LazyStream final : public Stream::Impl {
 public:
  explicit LazyStream(std::atomic<int64_t>& synchronizations) : synchronizations_(synchronizations) {}
  Event enqueue(std::function<void()> task) override {
    tasks_.push_back(std::move(task));
    return Event(std::make_shared<Point>(progress_, ++enqueued_, std::this_thread::get_id()));
  }
  void wait(const Event& event) override {
    enqueue([event] { event.wait(); });
  }
  void synchronize() override {
    if (is_running_) return;  // asked for by its own work: what came before is done
    ++synchronizations_;
    run();
    if (failure_) std::rethrow_exception(failure_);
  }
  void drain() noexcept override { run(); }
  bool is_current() const override { return is_running_; }
  const std::string& name() const override { return name_; }

 private:
  struct Progress {
    std::mutex mutex;
    std::condition_variable changed;
    int64_t done = 0;
  };
  class Point final : public Event::Impl {
   public:
    Point(std::shared_ptr<Progress> progress, int64_t task, std::thread::id owner)
        : progress_(std::move(progress)), task_(task), owner_(owner) {}
    bool ready() const override {
      const std::lock_guard lock(progress_->mutex);
      return progress_->done >= task_;
    }
    void wait() const override {
      std::unique_lock lock(progress_->mutex);
      if (progress_->done < task_ && std::this_thread::get_id() == owner_) fail_protocol("the host waits within a step");
      progress_->changed.wait(lock, [&] { return progress_->done >= task_; });
    }

   private:
    std::shared_ptr<Progress> progress_;
    int64_t task_;
    std::thread::id owner_;
  };

  void run() {
    is_running_ = true;
    for (; !tasks_.empty(); tasks_.pop_front()) {
      try {
        if (!failure_) tasks_.front()();
      } catch (...) {
        failure_ = std::current_exception();
      }
      const std::lock_guard lock(progress_->mutex);
      ++progress_->done;
      progress_->changed.notify_all();
    }
    is_running_ = false;
  }

  std::atomic<int64_t>& synchronizations_;
  std::string name_ = "lazy";
  std::deque<std::function<void()>> tasks_;
  int64_t enqueued_ = 0;
  bool is_running_ = false;
  std::exception_ptr failure_;
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
};

class LazyDevice final : public CpuLikeDevice {
 public:
  Stream compute_stream() const override { return Stream(std::make_shared<LazyStream>(synchronizations)); }
  mutable std::atomic<int64_t> synchronizations = 0;
};

bool reads_scalars(Agreement agreement) { return agreement == Agreement::Gradient || agreement == Agreement::Losses; }

TEST(HostWaits, AreWhereRanksAgreeAndAtTheEndOfAStep) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct})
    for (const int ranks : {1, 2})
      for (const int stage : {0, 3}) {
        SCOPED_TRACE(fmt::format("mode {}, {} ranks, stage {}", static_cast<int>(mode), ranks, stage));
        ZerothOrderCase test = ZerothOrderCase::tiny(mode);
        test.config.zero.stage = stage;
        test.config.zero.overlap_comm = true;
        test.steps = 3;
        int64_t agreements = 0;
        std::mutex mutex;
        const auto device = std::make_shared<const LazyDevice>();
        const auto count = [&](int64_t step, Engine& engine) {
          const std::lock_guard lock(mutex);
          for (const Action& a : engine.plan().step(step_kind(test.config.step, step)).actions)
            if (a.kind == ActionKind::End || (a.kind == ActionKind::Agree && reads_scalars(a.agreement))) ++agreements;
        };
        const ZerothOrderOutcome found = run_zeroth_order_threads(test, ranks, {.before_step = count, .device = Device(device)});
        EXPECT_GE(agreements, 2 * ranks * test.steps);
        // Agreements on an instruction or an estimate wait for kernels of their own where they launch any.
        if (mode == Mode::FirstOrder || mode == Mode::ZerothOrder)
          EXPECT_EQ(device->synchronizations, agreements);
        else
          EXPECT_GE(device->synchronizations, agreements);
        expect_same(found, run_zeroth_order_threads(test, ranks));
      }
}

}  // namespace
}  // namespace zerostep::testing
