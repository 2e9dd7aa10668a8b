#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {
namespace {

std::string letter_of(VisitKind kind) {
  if (kind == VisitKind::Forward) return "F";
  if (kind == VisitKind::ForwardOnly) return "n";
  return kind == VisitKind::Recompute ? "R" : "B";
}

TEST(Visits, RecomputationBySegmentsWorkedOutByHand) {
  const auto text = [](const std::vector<Visit>& visits) {
    std::string out;
    for (const Visit& v : visits) {
      out += letter_of(v.kind) + std::to_string(v.unit) + (v.keep_input ? "* " : " ");
    }
    return out;
  };
  EXPECT_EQ(text(first_order_visits(4, 1, 0, 0)), "F0 F1 F2 F3 B3 B2 B1 B0 ");
  // Four inner units in two segments; the second is recorded at once.
  EXPECT_EQ(text(first_order_visits(6, 1, 2, 0)), "F0 n1* n2 F3 F4 F5 B5 B4 B3 R1 R2 B2 B1 B0 ");
  EXPECT_EQ(text(first_order_visits(5, 1, -1, 0)), "F0 n1* n2* F3 F4 B4 B3 R2 B2 R1 B1 B0 ");
  EXPECT_EQ(text(first_order_visits(5, 1, 0, 3)), "n0 n1 n2 F3 F4 B4 B3 ");
  EXPECT_EQ(text(evaluation_visits(3)), "n0 n1 n2 ");
}

}  // namespace
}  // namespace zerostep
