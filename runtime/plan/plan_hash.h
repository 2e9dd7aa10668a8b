#pragma once
#include <string>

#include "runtime/plan/plan.h"

namespace zerostep {

// Of everything that a plan does and where it rests, whatever things are called: plans of one hash move the same bytes and compute the same
// in the same order. The stage and the limits that a plan was made with are no part of it.
std::string plan_hash(const Plan& plan);

}  // namespace zerostep
