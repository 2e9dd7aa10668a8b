#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/report/hyper_parameters.h"
#include "runtime/report/output_file.h"

namespace zerostep {

// A run's scalars and hyper-parameters as TensorBoard reads them: events.out.tfevents.TIME.HOST.PID.zerostep in a folder. Where it cannot
// be written a warning says so, and from then on nothing is written: no call throws for that. Files of other programs in the folder stay.
class TensorBoard {
 public:
  // Of the run's folder, where tensorboard.output_path names no other.
  static constexpr const char* kFolder = "tensorboard";
  // DeepSpeed's series, whose steps count samples.
  static constexpr const char* kOnSamples = "Train/Samples/";
  // Ours, whose steps count optimizer steps from 0, as metrics.csv does.
  static constexpr const char* kOnSteps = "step/";

  // The event files that runs of this program have left there.
  static std::vector<std::filesystem::path> events_in(const std::string& folder);

  struct Options {
    std::string folder;  // made where it is missing
    // What a run that goes on keeps of its files: what was written up to so many samples and before this step. Nothing: files of a former
    // run go.
    struct Kept {
      int64_t samples = 0, steps = 0;
    };
    std::optional<Kept> kept;
    std::vector<HyperParameter> hyper_parameters;
    std::function<void(const std::string&)> warn;
    std::chrono::duration<double> longest_wait{5};  // until what a step has written is in the file
  };

  explicit TensorBoard(Options options);
  // Writes what is left; a session that was not ended has failed.
  ~TensorBoard();
  TensorBoard(const TensorBoard&) = delete;
  TensorBoard& operator=(const TensorBoard&) = delete;

  using Scalar = std::pair<const char*, double>;
  // With their whole tags, at so many samples.
  void write_on_samples(int64_t samples, std::span<const Scalar> scalars);
  // Under kOnSteps, at this step, which ends with it: what would wait too long until the end of the next goes into the file.
  void write_on_steps(int64_t step, std::span<const Scalar> scalars);
  // Into the file.
  void flush();
  enum class End : uint8_t { Done, Stopped, Failed };  // Stopped: the run may go on later
  void end(End how);

 private:
  void open();
  void write_hyper_parameters();
  template <class Message>
  void append(const Message& event);
  void give_up(const std::string& why);
  void flush_if_due();

  struct Events;  // messages that are used again, so that their memory is
  Options options_;
  std::unique_ptr<Events> events_;
  std::string path_, buffer_;
  OutputFile file_;
  uint64_t bytes_written_ = 0;
  std::chrono::steady_clock::time_point flushed_, stepped_;
  bool ended_ = false;
};

}  // namespace zerostep
