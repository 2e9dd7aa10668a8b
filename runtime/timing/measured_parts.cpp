#include "runtime/timing/measured_parts.h"

#include <algorithm>

#include "base/nth.h"

namespace zerostep {
namespace {

// Of its share a part has at least so much, however late it begins: what is left then takes at most a fifth of the whole time longer.
constexpr double kLeastPace = 0.2;

class PartsRun {
 public:
  explicit PartsRun(const MeasuredParts& all) : all_(all), took_(all.parts.size()), unsteadiness_(all.parts.size()) {
    double shares = 0;
    for (const MeasuredPart& part : all.parts) shares += part.share;
    planned_ = all.seconds / std::max(1.0, shares);
  }

  std::vector<std::string> run() {
    double planned = 0, given = 0;  // seconds of the parts that are left, and that those before were given
    for (int i = 0; i < count(); ++i) planned += planned_of(i);
    disturbance_ = all_.disturbance();
    for (int i = 0; i < count(); ++i) {
      const double elapsed = all_.elapsed();
      const double pace = std::clamp((all_.seconds - elapsed) / planned, kLeastPace, 1.0);
      all_.begins(part(i).what, seconds_left(elapsed, given > 0 ? elapsed / given : 1, pace, planned));
      nth(unsteadiness_, i) = measured(i, pace * planned_of(i));
      given += pace * planned_of(i);
      planned -= planned_of(i);
    }
    repeat_disturbed();
    std::vector<std::string> out;
    for (int i = 0; i < count(); ++i)
      if (is_disturbed(i)) out.push_back(part(i).what);
    return out;
  }

 private:
  int count() const { return static_cast<int>(all_.parts.size()); }
  const MeasuredPart& part(int i) const { return nth(all_.parts, i); }
  double planned_of(int i) const { return part(i).share * planned_; }
  bool is_disturbed(int i) const { return nth(unsteadiness_, i) > kSteadySpread; }

  // That parts of so many planned seconds take at the speed of those before, which took `slowness` times what they were given; where that
  // is more than there is, late parts have less.
  double seconds_left(double elapsed, double slowness, double pace, double planned) const {
    const double at_pace = slowness * pace * planned;
    if (slowness <= 1) return at_pace;
    const double at_most = std::max(all_.seconds - elapsed, slowness * kLeastPace * planned);
    return std::min(at_pace, at_most);
  }

  // How far what was measured of a part is from steady.
  double measured(int i, double seconds) {
    const double before = disturbance_;
    const double begin = all_.elapsed();
    const double spread = part(i).measure(seconds);
    nth(took_, i) = all_.elapsed() - begin;
    disturbance_ = all_.disturbance();
    return std::max({spread, before, disturbance_});
  }

  // The first part that is disturbed and can be measured again in time; -1: none.
  int next_disturbed(int after) const {
    const double left = all_.seconds - all_.elapsed();
    for (int i = 1; i <= count(); ++i)
      if (const int p = (after + i) % count(); is_disturbed(p) && nth(took_, p) <= left) return p;
    return -1;
  }

  void repeat_disturbed() {
    for (int i = next_disturbed(count() - 1); i >= 0; i = next_disturbed(i)) {
      all_.begins(part(i).what + " again, once nothing else runs", all_.seconds - all_.elapsed());
      do {
        disturbance_ = all_.disturbance();
      } while (disturbance_ > kSteadySpread && all_.seconds - all_.elapsed() >= nth(took_, i));
      if (disturbance_ > kSteadySpread) continue;
      all_.keep();
      const double unsteadiness = measured(i, planned_of(i));
      if (unsteadiness < nth(unsteadiness_, i))
        nth(unsteadiness_, i) = unsteadiness;
      else
        all_.restore();
    }
  }

  const MeasuredParts& all_;
  double planned_ = 0;  // seconds of a share of 1
  std::vector<double> took_, unsteadiness_;
  double disturbance_ = 0;  // when it was last looked at
};

}  // namespace

std::vector<std::string> measure_parts(const MeasuredParts& all) { return PartsRun(all).run(); }

}  // namespace zerostep
