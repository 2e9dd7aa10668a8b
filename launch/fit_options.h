#pragma once
#include "launch/fit.h"

namespace zerostep {

// Fills in the dimensions of a search with their options, and what the file leaves to it and keeps: FitResult::dimensions, chosen, kept and
// files_left_out. Each dimension has one option at least, and its simplest stands first.
void find_options(const Subject& subject, const FitRequest& request, FitResult& result);
// Of an option of FitDimension::Placement.
int64_t stage_of(const FitOption& placement);

}  // namespace zerostep
