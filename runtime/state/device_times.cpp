#include "runtime/state/device_times.h"

#include <torch/csrc/profiler/stubs/base.h>

#include <algorithm>
#include <utility>

namespace zerostep {

DeviceTimes::DeviceTimes(Stream stream, Trace* trace) : trace_(trace) {
  if (trace == nullptr) return;
  anchor_ = stream.mark();
  anchor_.wait();
  anchor_seconds_ = trace->now();
}

DeviceTimes::Scope::Scope(DeviceTimes* times, Stream& stream, Phase phase, const char* row, std::string name)
    : times_(times), stream_(stream), phase_(phase), row_(row), name_(std::move(name)) {
  if (times_ == nullptr) return;
  if (!times_->is_in_step_) phase_ = nullptr;
  if (times_->trace_ == nullptr) row_ = nullptr;
  if (row_ != nullptr) torch::profiler::impl::cudaStubs()->rangePush(name_.c_str());
  if (phase_ != nullptr || row_ != nullptr) begin_ = stream_.mark();
}

DeviceTimes::Scope::~Scope() {
  if (times_ == nullptr || (phase_ == nullptr && row_ == nullptr)) return;
  times_->spans_.push_back({std::move(begin_), stream_.mark(), phase_, row_, std::move(name_)});
  if (row_ != nullptr) torch::profiler::impl::cudaStubs()->rangePop();
}

void DeviceTimes::begin_step() {
  timers_ = {};
  is_in_step_ = true;
}

void DeviceTimes::end_step() {
  is_in_step_ = false;
  read();
}

void DeviceTimes::read() {
  const auto is_under_way = [](const Span& span) { return !span.end.ready(); };
  const auto done = std::stable_partition(spans_.begin(), spans_.end(), is_under_way);
  std::for_each(done, spans_.end(), [this](const Span& span) { add(span); });
  spans_.erase(done, spans_.end());
}

void DeviceTimes::add(const Span& span) {
  const double seconds = span.end.seconds_since(span.begin);
  if (span.phase != nullptr) timers_.*span.phase += seconds;
  if (span.row == nullptr) return;
  anchor_seconds_ += span.begin.seconds_since(anchor_);
  anchor_ = span.begin;
  trace_->add(span.row, span.name, anchor_seconds_, anchor_seconds_ + seconds);
}

}  // namespace zerostep
