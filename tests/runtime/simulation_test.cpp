#include "runtime/timing/simulation.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/nth.h"
#include "tests/runtime/support/machines.h"

// The lanes of plans made by hand, whose times are worked out by hand.
namespace zerostep {
namespace {

using testing::instant_machine;

// A plan in which each action has a lane, a time and what it waits for.
class HandMadePlan {
 public:
  explicit HandMadePlan(bool overlaps, bool has_host_compute = false)
      : apart_{.communication = overlaps, .files = true, .host_compute = has_host_compute, .copies = true} {}
  int add(Lane lane, double seconds, std::vector<int> waits = {}, ActionKind kind = ActionKind::Visit) {
    Action a{.kind = kind};
    a.lane = lane;
    a.waits = std::move(waits);
    plan_.actions.push_back(std::move(a));
    seconds_.push_back(seconds);
    return static_cast<int>(plan_.actions.size()) - 1;
  }
  Simulation on(const Machine& machine) const { return simulate(plan_, apart_, seconds_, machine); }

 private:
  Plan plan_;
  StreamsApart apart_;
  std::vector<double> seconds_;
};

double of(const std::array<double, kLanes>& seconds, Lane lane) { return nth(seconds, lane); }
std::pair<double, double> span(const Simulation& s, int action) { return {nth(s.actions, action).begin, nth(s.actions, action).end}; }
using Span = std::pair<double, double>;

Machine machine_of(double cores) {
  Machine m = instant_machine();
  m.cores_per_rank = cores;
  return m;
}

TEST(Simulation, ActionsOfALaneFollowOneAnother) {
  HandMadePlan plan(false);
  for (const double seconds : {1.0, 0.0, 2.0, 3.0}) plan.add(Lane::Compute, seconds);
  const Simulation s = plan.on(machine_of(1));
  EXPECT_EQ(s.seconds, 6);
  EXPECT_EQ(of(s.lane_seconds, Lane::Compute), 6);
  EXPECT_EQ(of(s.bound_seconds, Lane::Compute), 6);
  EXPECT_EQ(s.bound_by, Lane::Compute);
  EXPECT_EQ(span(s, 2), Span(1, 3));
}

// Two units, the second gathered while the first is visited.
HandMadePlan two_units(bool overlaps) {
  HandMadePlan plan(overlaps);
  const int first = plan.add(Lane::Gather, 2), second = plan.add(Lane::Gather, 2);
  plan.add(Lane::Compute, 3, {first});
  plan.add(Lane::Compute, 1, {second});
  return plan;
}

TEST(Simulation, LanesWorkBesideOneAnother) {
  const Simulation s = two_units(true).on(machine_of(2));
  EXPECT_EQ(span(s, 0), Span(0, 2));
  EXPECT_EQ(span(s, 1), Span(2, 4));
  EXPECT_EQ(span(s, 2), Span(2, 5));
  EXPECT_EQ(span(s, 3), Span(5, 6));
  EXPECT_EQ(s.seconds, 6);
  EXPECT_EQ(of(s.lane_seconds, Lane::Gather), 4);
  EXPECT_EQ(of(s.bound_seconds, Lane::Gather), 2);
  EXPECT_EQ(of(s.bound_seconds, Lane::Compute), 4);
}

TEST(Simulation, WithoutOverlapCollectivesRunInTheComputeStream) {
  const Simulation s = two_units(false).on(machine_of(2));
  EXPECT_EQ(s.seconds, 8);
  EXPECT_EQ(of(s.lane_seconds, Lane::Gather), 4);
  EXPECT_EQ(of(s.lane_seconds, Lane::Compute), 4);
  EXPECT_EQ(of(s.bound_seconds, Lane::Gather), 4);
}

// From 2 on the second gather and the first visit have half a core each; from 6 on the visit has it alone.
TEST(Simulation, LanesAtWorkAtOnceShareTheCores) {
  const Simulation s = two_units(true).on(machine_of(1));
  EXPECT_EQ(span(s, 0), Span(0, 2));
  EXPECT_EQ(span(s, 1), Span(2, 6));
  EXPECT_EQ(span(s, 2), Span(2, 7));
  EXPECT_EQ(span(s, 3), Span(7, 8));
  // An accelerator's lanes share none.
  Machine accelerator = machine_of(1);
  accelerator.lanes_share_cores = false;
  EXPECT_EQ(two_units(true).on(accelerator).seconds, 6);
  // Three threads that want four cores of which there are three: 4/3 as long.
  Machine wide = machine_of(3);
  wide.threads_per_rank = 3;
  HandMadePlan plan(true);
  plan.add(Lane::Reduce, 3);
  plan.add(Lane::Compute, 3);
  EXPECT_DOUBLE_EQ(plan.on(wide).seconds, 4);
}

TEST(Simulation, GathersAndReductionsShareAStream) {
  HandMadePlan plan(true);
  plan.add(Lane::Gather, 2);
  plan.add(Lane::Reduce, 3);
  plan.add(Lane::Gather, 1);
  const Simulation s = plan.on(machine_of(4));
  EXPECT_EQ(s.seconds, 6);
  EXPECT_EQ(of(s.bound_seconds, Lane::Reduce), 3);
  EXPECT_EQ(of(s.bound_seconds, Lane::Gather), 3);
}

// They share the disk: the load is done at 6, when the store has done 3 of 5, or where writes are three times as fast at 4, when it has
// moved as many bytes, 1 of 5.
TEST(Simulation, FilesNeedNoCoreAndShareTheDisk) {
  HandMadePlan plan(false);
  const int load = plan.add(Lane::FileRead, 3);
  plan.add(Lane::FileWrite, 5);
  plan.add(Lane::Compute, 4);
  plan.add(Lane::Compute, 1, {load});
  Machine machine = machine_of(1);
  machine.file_read = {0, 1e9}, machine.file_write = {0, 3e9};
  const Simulation uneven = plan.on(machine);
  EXPECT_EQ(span(uneven, 0), Span(0, 4));
  EXPECT_EQ(span(uneven, 1), Span(0, 8));
  EXPECT_EQ(span(uneven, 3), Span(4, 5));
  const Simulation s = plan.on(machine_of(1));
  EXPECT_EQ(span(s, 0), Span(0, 6));
  EXPECT_EQ(span(s, 1), Span(0, 8));
  EXPECT_EQ(span(s, 2), Span(0, 4));
  EXPECT_EQ(span(s, 3), Span(6, 7));
  EXPECT_EQ(s.seconds, 8);
}

// A checkpoint is stored beside the visit after its own, which makes room for it, and comes back beside the first backward. Copies take a
// core.
TEST(Simulation, CheckpointsTravelBesideVisits) {
  const auto simulated = [](double cores) {
    HandMadePlan plan(false);
    const int kept = plan.add(Lane::Compute, 2);
    const int stored = plan.add(Lane::DeviceToHost, 1, {kept}, ActionKind::Store);
    plan.add(Lane::HostToDevice, 3, {stored}, ActionKind::Load);
    plan.add(Lane::Compute, 2);
    plan.add(Lane::Compute, 0, {stored}, ActionKind::Drop);
    plan.add(Lane::Compute, 1);
    plan.add(Lane::Compute, 2, {2});
    return plan.on(machine_of(cores));
  };
  const Simulation beside = simulated(2);
  EXPECT_EQ(span(beside, 1), Span(2, 3));
  EXPECT_EQ(span(beside, 2), Span(3, 6));
  EXPECT_EQ(span(beside, 4), Span(4, 4));
  EXPECT_EQ(span(beside, 5), Span(4, 5));
  EXPECT_EQ(beside.seconds, 8);
  EXPECT_EQ(of(beside.bound_seconds, Lane::DeviceToHost), 1);
  EXPECT_EQ(of(beside.bound_seconds, Lane::HostToDevice), 3);
  EXPECT_EQ(simulated(1).seconds, 11);
}

// The host's updates: beside visits where they wait for the next step, and there they take cores; else in the compute stream.
TEST(Simulation, UpdatesOfTheHostWorkBesideVisitsWhereTheyWait) {
  const auto simulated = [](bool applies_pending, double cores) {
    HandMadePlan plan(false, applies_pending);
    plan.add(Lane::HostCompute, 1);
    const int update = plan.add(Lane::HostCompute, 3);
    plan.add(Lane::Compute, 2);
    plan.add(Lane::Compute, 1, {update});
    return plan.on(machine_of(cores));
  };
  const Simulation beside = simulated(true, 2);
  EXPECT_EQ(span(beside, 2), Span(0, 2));
  EXPECT_EQ(beside.seconds, 5);
  EXPECT_EQ(of(beside.bound_seconds, Lane::HostCompute), 4);
  EXPECT_EQ(simulated(true, 1).seconds, 7);
  EXPECT_EQ(span(simulated(true, 1), 2), Span(0, 4));
  EXPECT_EQ(span(simulated(false, 2), 2), Span(4, 6));
  EXPECT_EQ(simulated(false, 2).seconds, 7);
}

// A processor computes in the thread that launches: what stands behind a visit is launched after it. An accelerator's host runs ahead, up
// to where the ranks agree.
TEST(Simulation, TheHostLaunchesInTheOrderOfThePlan) {
  HandMadePlan plan(true);
  plan.add(Lane::Compute, 5);
  const int early = plan.add(Lane::Gather, 2);
  const int agreed = plan.add(Lane::Compute, 1, {}, ActionKind::Agree);
  const int late = plan.add(Lane::Gather, 2);
  Machine machine = machine_of(2);
  Simulation s = plan.on(machine);
  EXPECT_EQ(span(s, early), Span(5, 7));
  EXPECT_EQ(span(s, agreed), Span(5, 6));
  EXPECT_EQ(span(s, late), Span(7, 9));
  EXPECT_EQ(of(s.bound_seconds, Lane::Compute), 5);
  EXPECT_EQ(of(s.bound_seconds, Lane::Gather), 4);
  machine.host_is_device = machine.lanes_share_cores = false;
  s = plan.on(machine);
  EXPECT_EQ(span(s, early), Span(0, 2));
  EXPECT_EQ(span(s, late), Span(6, 8));
}

TEST(Simulation, PlansThatCannotRunAreErrors) {
  HandMadePlan plan(true);
  plan.add(Lane::Gather, 1, {1});
  plan.add(Lane::Compute, 1, {0});
  EXPECT_THROW(plan.on(machine_of(1)), ProtocolError);
  EXPECT_THROW(simulate(Plan(), {}, {1.0}, machine_of(1)), ProtocolError);
}

}  // namespace
}  // namespace zerostep
