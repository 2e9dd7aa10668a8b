#pragma once
#include <functional>
#include <string>
#include <vector>

namespace zerostep {

// How far apart the times of steady work may lie, as a share, on a machine that does nothing else: less than by another program that never
// rests, which makes all that four cores do take a quarter longer, and more of fewer.
constexpr double kSteadySpread = 0.25;

// Something to measure.
struct MeasuredPart {
  std::string what;
  double share = 0;  // of the time, about
  // Measures in about so many seconds; gives how far the times of steady work lay apart meanwhile.
  std::function<double(double seconds)> measure;
};

// Every function is needed.
struct MeasuredParts {
  std::vector<MeasuredPart> parts;
  double seconds = 0;  // for all of them
  // Both collective, so that every rank gives the same: the seconds since the measurement began, and how much longer the same work takes
  // now than it can, as a share.
  std::function<double()> elapsed, disturbance;
  std::function<void()> keep, restore;  // the figures measured so far: as they are now, and as they were then
  // Told what is measured from now on, and about how many seconds all that is left takes.
  std::function<void(const std::string& what, double seconds_left)> begins;
};

// Measures each part, and while time is left those again whose times lay apart or before or after which work was disturbed; a part keeps
// the steadiest of its figures. A part that begins late has less time. Gives the names of those that are still not steady.
std::vector<std::string> measure_parts(const MeasuredParts& all);

}  // namespace zerostep
