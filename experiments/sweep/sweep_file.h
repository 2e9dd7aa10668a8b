#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace zerostep {

// The values of a few keys of the configuration ("step.mode"), by their paths; as JSON, as the file of a run would have them.
using KeyValues = std::vector<std::pair<std::string, nlohmann::json>>;
// Of each key the values that are tried; every combination is a point.
using Grid = std::vector<std::pair<std::string, std::vector<nlohmann::json>>>;

// What a sweep may take of the machine.
struct SweepResources {
  int ranks = 1;              // of each run
  int jobs = 0;               // runs at once; 0: as many as the cores, or the GPUs, have room for
  std::vector<int> gpus;      // numbers of the GPUs that the runs share out; none: the processor
  bool has_all_gpus = false;  // `gpus` were not named, but are all that there are
  bool uses_slurm = false;
};

// Successive halving: all points take the steps of the first rung, the best `keep` of them go on to the next.
struct SweepSearch {
  std::string metric = "loss";  // a column of metrics.csv (halving.h: is_better_higher)
  std::vector<int64_t> rungs;   // steps, rising; the last is run.steps at most
  double keep = 0.5;
};

// A sweep file as it is written: points are not checked as runs yet.
struct SweepFile {
  std::string file;
  nlohmann::json document;  // what it holds
  std::string name, output_dir;
  std::string asks;  // what it is to answer, for its report: the key `asks`, or else the file's first comment that begins so; "": not said
  std::string base;  // the file of a run; "": `inline_base`
  nlohmann::json inline_base;  // a run's configuration within the sweep file
  struct When {
    KeyValues conditions;
    Grid grid;
  };
  Grid grid, repeat;
  std::vector<When> whens;  // grids of those points of `grid` that have the values of the conditions
  std::vector<KeyValues> runs;
  SweepResources resources;
  std::optional<SweepSearch> search;
  // What is wrong with keys that no run's file may have, a sentence each. The points lack them; refuse_points() tells it with the rest.
  std::vector<std::string> wrong_keys;
  std::string folder() const { return output_dir + "/" + name; }
};

// InputError, one paragraph that names every key of the sweep file itself that is not known, with the nearest that is, and every value of
// another kind; keys of runs stand there too, and alone in `wrong_keys`.
SweepFile read_sweep_file(const std::string& file);

}  // namespace zerostep
