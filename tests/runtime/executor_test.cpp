#include "runtime/engine/executor.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/cpu_like_device.h"
#include "tests/runtime/support/zeroth_order_case.h"

// The executor on a device that writes down what its streams are told and does nothing.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct Log {
  std::vector<std::string> lines;
  std::string waiting;  // which stream is told to wait; "": whoever waits is the host
};

class ActionEvent final : public Event::Impl {
 public:
  ActionEvent(Log& log, int action) : log_(log), action_(action) {}
  bool ready() const override { return false; }
  void wait() const override {
    log_.lines.push_back(fmt::format("{} waits for {}", log_.waiting.empty() ? "host" : log_.waiting, action_));
  }

 private:
  Log& log_;
  int action_;
};

class RecordingStream final : public Stream::Impl {
 public:
  RecordingStream(Log& log, std::string name) : log_(log), name_(std::move(name)) {}
  Event enqueue(std::function<void()>) override { return {}; }  // timers
  void wait(const Event& event) override {
    log_.waiting = name_;
    event.wait();
    log_.waiting.clear();
  }
  void synchronize() override { log_.lines.push_back("host synchronizes " + name_); }
  void drain() noexcept override {}
  const std::string& name() const override { return name_; }

 private:
  Log& log_;
  std::string name_;
};

class RecordingDevice final : public CpuLikeDevice {
 public:
  explicit RecordingDevice(Log& log) : log_(log) {}
  Stream compute_stream() const override { return Stream(std::make_shared<RecordingStream>(log_, "compute")); }
  Stream stream(const std::string& name) const override { return Stream(std::make_shared<RecordingStream>(log_, name)); }

 private:
  Log& log_;
};

class RecordingRunner final : public ActionRunner {
 public:
  RecordingRunner(Log& log, int rejected) : log_(log), rejected_(rejected) {}
  void prepare(const Plan& plan, const Action& action) override {
    if (action.visit >= 0) log_.lines.push_back(fmt::format("host prepares {}", index_of(plan, action)));
  }
  Event launch(const Plan& plan, const Action& action) override {
    const int index = index_of(plan, action);
    log_.lines.push_back(fmt::format("launch {}", index));
    return Event(std::make_shared<ActionEvent>(log_, index));
  }
  bool agree(const Plan& plan, const Action& action) override { return index_of(plan, action) != rejected_; }
  void explain(const Plan&, const Action&, bool, const std::exception&) override { ADD_FAILURE(); }

 private:
  static int index_of(const Plan& plan, const Action& action) { return static_cast<int>(&action - plan.actions.data()); }
  Log& log_;
  int rejected_;
};

// What a plan says, line by line.
std::vector<std::string> expected_lines(const Plan& plan, bool overlap, int last) {
  std::vector<std::string> out;
  for (int i = 0; i <= last; ++i) {
    const Action& action = plan.action(i);
    if (action.kind == ActionKind::Visit) out.push_back(fmt::format("host prepares {}", i));
    const char* stream = action.lane == Lane::DeviceToHost         ? "device to host"
                         : action.lane == Lane::HostToDevice       ? "host to device"
                         : overlap && action.lane != Lane::Compute ? "communication"
                                                                   : "compute";
    for (const int other : action.waits) out.push_back(fmt::format("{} waits for {}", stream, other));
    out.push_back(fmt::format("launch {}", i));
  }
  return out;
}

TEST(Executor, WaitsAndLaunchesAsThePlanSays) {
  int64_t waits = 0;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {0, 1, 2, 3})
      for (const bool overlap : {false, true})
        for (const Updates updates : {Updates::Immediate, Updates::Deferred}) {
          ZerothOrderCase test = ZerothOrderCase::tiny(mode);
          test.config.zero.stage = stage;
          test.config.zero.overlap_comm = overlap;
          test.config.number_checkpoints = -1;
          test.config.cpu_checkpointing = overlap;
          test.config.batch = test.config.step.query_batch = {2 * ZerothOrderCase::kMicroBatch, ZerothOrderCase::kMicroBatch, 1};
          const auto model = make_gpt2(test.model);
          const auto objective = make_cross_entropy();
          const TrainingPlan plan = plan_training(test.config, *model, *objective, 2, updates);
          for (const TrainingPlan::Step& step : plan.steps)
            for (const bool rejects : {false, true}) {
              SCOPED_TRACE(fmt::format("mode {} stage {} overlap {} updates {} rejects {}", static_cast<int>(mode), stage, overlap,
                                       static_cast<int>(updates), rejects));
              Log log;
              MemoryMeter meter;
              run_local_ranks(1, {}, [&](Communicator world) {
                Lanes lanes(Device(std::make_shared<const RecordingDevice>(log)), host_kernels(), world,
                            {.communication = overlap, .copies = overlap}, meter, nullptr);
                RecordingRunner runner(log, rejects ? step.plan.agreement : -1);
                EXPECT_EQ(Executor(plan.layout, lanes).execute(step.plan, runner), !rejects);
              });
              const int last = rejects ? step.plan.agreement : static_cast<int>(step.plan.actions.size()) - 1;
              std::vector<std::string> expected = expected_lines(step.plan, overlap, last);
              // What is left out early leaves no lane at work; those of the host share the compute stream here.
              for (const char* stream : {"compute", overlap ? "communication" : "compute", "compute", "compute", "compute",
                                         overlap ? "device to host" : "compute", overlap ? "host to device" : "compute"})
                if (rejects) expected.push_back(fmt::format("host synchronizes {}", stream));
              ASSERT_EQ(log.lines, expected);
              for (const Action& action : step.plan.actions) waits += std::ssize(action.waits);
            }
        }
  EXPECT_GT(waits, 1000);
}

// Launches nothing but for the visit that throws.
class FailingRunner final : public ActionRunner {
 public:
  FailingRunner(int fails, bool in_queue) : fails_(fails), in_queue_(in_queue) {}
  void prepare(const Plan&, const Action&) override {}
  Event launch(const Plan&, const Action& action) override {
    ++launched;
    if (action.visit != fails_) return {};
    if (!in_queue_) throw std::runtime_error("the visit");
    return stream_.enqueue([] { throw std::runtime_error("the visit"); });
  }
  bool agree(const Plan&, const Action&) override { return true; }
  void explain(const Plan&, const Action& action, bool, const std::exception& error) override {
    fail_run("visit {}: {}", action.visit, error.what());
  }
  int launched = 0;

 private:
  int fails_;
  bool in_queue_;
  Stream stream_ = Stream::inline_stream();
};

TEST(Executor, AFailedActionIsExplained) {
  ZerothOrderCase test = ZerothOrderCase::tiny(Mode::FirstOrder);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
  const Plan& step = plan.any_step();
  const auto visit = std::find_if(step.actions.begin(), step.actions.end(), [](const Action& a) { return a.visit == 2; });
  for (const bool in_queue : {false, true}) {
    FailingRunner runner(2, in_queue);
    MemoryMeter meter;
    std::string text;
    run_local_ranks(1, {}, [&](Communicator world) {
      Lanes lanes(Device::cpu(), host_kernels(), world, {}, meter, nullptr);
      try {
        Executor(plan.layout, lanes).execute(step, runner);
      } catch (const std::exception& error) {
        text = error.what();
      }
    });
    // What throws in the host's own call has no event to find it by: its caller knows where it was.
    EXPECT_EQ(text, in_queue ? "visit 2: the visit" : "the visit");
    EXPECT_EQ(runner.launched, visit - step.actions.begin() + 1);
  }
}

// A lane has its own stream, or runs on that of collectives or on the compute stream.
TEST(Lanes, RunOnTheStreamsThatAreApart) {
  for (int bits = 0; bits < 16; ++bits) {
    const bool communication = (bits & 1) != 0, files = (bits & 2) != 0, host = (bits & 4) != 0, checkpoints = (bits & 8) != 0;
    Log log;
    MemoryMeter meter;
    run_local_ranks(1, {}, [&](Communicator world) {
      Lanes lanes(Device(std::make_shared<const RecordingDevice>(log)), host_kernels(), world, {communication, files, host, checkpoints},
                  meter, nullptr);
      const auto name = [&](Lane lane) { return lanes.stream_of(lane).name(); };
      EXPECT_EQ(name(Lane::Compute), "compute");
      for (const Lane lane : {Lane::Gather, Lane::Reduce}) EXPECT_EQ(name(lane), communication ? "communication" : "compute");
      EXPECT_EQ(name(Lane::FileRead), files ? "file read" : "compute");
      EXPECT_EQ(name(Lane::FileWrite), files ? "file write" : "compute");
      EXPECT_EQ(name(Lane::HostCompute), host ? "host computation" : "compute");
      EXPECT_EQ(name(Lane::DeviceToHost), checkpoints ? "device to host" : "compute");
      EXPECT_EQ(name(Lane::HostToDevice), checkpoints ? "host to device" : "compute");
    });
  }
}

}  // namespace
}  // namespace zerostep::testing
