#include "base/trace.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace zerostep {

void Trace::add(const char* row, std::string name, double begin, double end) {
  const std::lock_guard lock(mutex_);
  intervals_.push_back({row, std::move(name), begin, end});
}

std::vector<Trace::Interval> Trace::intervals() const {
  const std::lock_guard lock(mutex_);
  return intervals_;
}

void Trace::write(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  std::ofstream out(path);
  out << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  bool first = true;
  for (const Interval& i : intervals_) {
    out << (first ? "\n" : ",\n")
        << nlohmann::json{{"name", i.name}, {"ph", "X"},           {"pid", rank_},
                          {"tid", i.row},   {"ts", i.begin * 1e6}, {"dur", (i.end - i.begin) * 1e6}}
               .dump();
    first = false;
  }
  out << "\n]}\n";
  out.close();
  if (!out) fail_run("cannot write the trace {}: {}", path, std::strerror(errno));
}

}  // namespace zerostep
