#pragma once
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "base/stream.h"

namespace zerostep {

// Work of one rank as a Chrome trace (chrome://tracing, Perfetto): one row for computation, one for communication. Thread-safe.
class Trace {
 public:
  explicit Trace(int rank) : rank_(rank), start_(std::chrono::steady_clock::now()) {}

  // Records from construction to destruction.
  class Scope {
   public:
    Scope(Trace* trace, const char* row, std::string name)
        : trace_(trace), row_(row), name_(trace != nullptr ? std::move(name) : std::string()) {
      if (trace_ != nullptr) begin_ = trace_->now();
    }
    ~Scope() {
      if (trace_ != nullptr) trace_->add(row_, std::move(name_), begin_, trace_->now());
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Trace* trace_;
    const char* row_;
    std::string name_;
    double begin_ = 0;
  };

  // Seconds since construction.
  double now() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void add(const char* row, std::string name, double begin, double end);
  // Runs `enqueue` and records how long what it puts on the stream takes there.
  template <typename Enqueue>
  static Event on_stream(Trace* trace, Stream& stream, const char* row, std::string name, Enqueue enqueue) {
    if (trace == nullptr) return enqueue();
    auto begin = std::make_shared<double>(0);
    stream.enqueue([trace, begin] { *begin = trace->now(); });
    enqueue();
    return stream.enqueue(
        [trace, begin, row, name = std::move(name)]() mutable { trace->add(row, std::move(name), *begin, trace->now()); });
  }

  struct Interval {
    const char* row;
    std::string name;
    double begin, end;
  };
  std::vector<Interval> intervals() const;
  // RunError naming the path when it cannot be written.
  void write(const std::string& path) const;

 private:
  int rank_;
  std::chrono::steady_clock::time_point start_;
  mutable std::mutex mutex_;
  std::vector<Interval> intervals_;
};

}  // namespace zerostep
