#pragma once
#include "launch/fit.h"

namespace zerostep {

// Fills in the dimensions of a search with their options, and what the file leaves to it and keeps: FitResult::dimensions, chosen, kept and
// why_no_files. Of each dimension the simplest option stands first. There may be no placement (files are asked for, and none can be used);
// every other dimension has one option at least.
void find_options(const Subject& subject, const FitRequest& request, FitResult& result);
// The stage of a placement: its first setting.
int64_t stage_of(const FitOption& placement);

}  // namespace zerostep
