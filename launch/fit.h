#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "launch/subject.h"
#include "runtime/memory/workspace.h"
#include "runtime/timing/machine.h"

namespace zerostep {

// The settings of a file that decide where and how a step runs but not what it computes: each is a dimension of the search where the file
// leaves it to the search, and keeps the file's value elsewhere.
enum class FitDimension : uint8_t { Placement, Recomputation, QueriesPerPass, MicroBatch, Residency };
constexpr int kFitDimensions = 5;

struct FitSetting {
  std::string path;      // of the key
  nlohmann::json value;  // null: the key is taken out
  bool operator==(const FitSetting&) const = default;
  std::string text() const { return path + "=" + value.dump(); }  // as Setting::text
};

// Setting::from of what the search chooses.
constexpr const char* kFromFit = "--fit";
// The same of what the program chooses for a file that says "auto".
constexpr const char* kFromAuto = "\"auto\"";

// One value of a dimension. `name` is for people: "stage 3, parameters in files, state on the host".
struct FitOption {
  std::string name;
  std::vector<FitSetting> settings;
};

// Bytes that a rank needs or may use of each tier.
struct TierBytes {
  int64_t device = 0, host = 0, file = 0;
  int64_t sum() const { return device + host + file; }
};

// What libraries take for themselves is measured for the best candidates alone; every other one leaves them this share of the device's
// memory. An assumption: a plan beside which they take less is passed over for one that needs less.
constexpr double kShareOfLibraries = 0.05;

// What memory that the options leave is filled with: parts of what they place further away.
struct FitFilling {
  double ratio = 1;                              // of the optimizer's state, that is offloaded
  int64_t host_elements = 0;                     // of a rank's parameters in files: that rest in memory of the host
  int parameter_buffers = 0, state_buffers = 0;  // of what is in files; 0: as many as without
  bool operator==(const FitFilling&) const = default;
};
constexpr const char *kRatio = "zero_optimization.offload_optimizer.ratio", *kHostElements = "zero_optimization.offload_param.max_in_cpu",
                     *kParameterBuffers = "zero_optimization.offload_param.buffer_count",
                     *kStateBuffers = "zero_optimization.offload_optimizer.buffer_count";
// The keys of a filling that the file leaves to the search.
struct FitFillable {
  bool ratio = false, host_elements = false, parameter_buffers = false, state_buffers = false;
};

// One combination of options, planned.
struct FitCandidate {
  std::array<int, kFitDimensions> options = {};  // of each dimension, which
  FitFilling filling;
  std::string plan_hash;                           // of the plans of a step, one after the other; the same: the same is done
  TierBytes needed, lacks;                         // what it goes without, of what it was judged by; nothing: it fits
  double step_seconds = 0, tokens_per_second = 0;  // where it fits, but for what libraries take
  std::string bound_by;
  bool fits() const { return lacks.sum() == 0; }
};

struct FitRequest {
  const ConfigArguments& arguments;
  int world = 1;
  bool stage_is_free = false;        // the file leaves the stage to the search; the subject was loaded at stage 3
  std::set<std::string> autos = {};  // keys that are left to the search; empty: all that the file does not give
  const char* asked_by() const { return autos.empty() ? kFromFit : kFromAuto; }
  const Machine* machine = nullptr;  // nullptr: its speed is not known, and memory alone decides
  TierBytes capacity;
  std::string why_no_folders = {};  // why files of a run cannot be made where the file says; "": they can
  bool includes_host = false;       // what rests on the host comes out of the device's capacity, and needs no other
  // Measures what libraries take for themselves, of the candidates that are best; nullptr: the machine is another one.
  WorkspaceMeter* meter = nullptr;
  std::function<void(int planned)> progress = {};
};

struct FitResult {
  std::array<std::vector<FitOption>, kFitDimensions> dimensions;
  FitFillable fillable;
  std::vector<std::string> chosen;       // keys that the file leaves to the search
  std::vector<std::string> kept;         // "zero_optimization.stage 3": what the file gives and the search would have chosen
  std::string why_no_files;              // why no option rests in files; "": some do, or the file says where everything rests
  bool batch_follows = false;            // train_batch_size is not given: candidates of other micro-batches train on other batches
  std::vector<FitCandidate> candidates;  // that were planned
  int best = -1;                         // index into candidates; -1: none fits
  TierBytes capacity;                    // of the request

  const FitOption& option(const FitCandidate& candidate, FitDimension dimension) const;
  // What the file is to say for a candidate.
  std::vector<FitSetting> settings(const FitCandidate& candidate) const;
  // Those of them that its filling needs.
  static std::vector<FitSetting> settings_of_filling(const FitCandidate& candidate);
  // The fastest of each placement that fits, the fastest first; then of each other one the candidate that is nearest to fitting: that
  // is short of the fewest tiers, of the host's memory rather than the device's, of the fewest bytes. Placements that are
  // one plan (the parameters of a model whose units all stay on the device rest nowhere else) are there once, as the simplest of them.
  std::vector<const FitCandidate*> placements() const;
  // best >= 0. Of each other value of a dimension that makes another plan, all other options as the best has them (residency as it must
  // be): the candidate that was planned.
  std::vector<const FitCandidate*> neighbours(FitDimension dimension) const;
};

// Plans every combination of free settings that a rank could hold, the small ones first, and predicts its step's time. Of candidates within
// one part in a hundred of the fastest the simplest is best: nothing in files, then nothing on the host, the lowest stage, nothing computed
// twice. Without a machine the best is the simplest that fits, with the largest micro-batch. What the options leave of memory is filled
// (FitFilling) where that is faster by one part in a thousand. InputError where the file is wrong whatever the settings.
FitResult find_fit(const Subject& subject, const FitRequest& request);
// Whether there is more than one combination.
bool has_choice(const Subject& subject, const FitRequest& request);

// Whether a dimension's options differ for a candidate: only stage 3 gathers units to keep.
bool has_effect(const FitResult& result, const FitCandidate& candidate, FitDimension dimension);
// For people: "75 % of the state offloaded, 15 G elements of the parameters in memory"; "" where it fills nothing.
std::string filling_text(const FitFilling& filling);
// For people: "needs 93.1 GiB of device memory, 13.1 GiB more than there is for it"; "" where it fits.
std::string lacking_text(const FitCandidate& candidate);

}  // namespace zerostep
