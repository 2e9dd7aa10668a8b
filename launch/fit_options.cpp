#include "launch/fit_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/nth.h"
#include "runtime/config/values.h"

namespace zerostep {
namespace {

using nlohmann::json;
using schema::Origin;
using schema::Value;

constexpr const char* kSegments = "activation_checkpointing.number_checkpoints";
constexpr const char* kHostCheckpoints = "activation_checkpointing.cpu_checkpointing";
constexpr const char* kPerPass = "step.queries_per_pass";
constexpr const char* kPersistence = "zero_optimization.stage3_param_persistence_threshold";
constexpr std::array kLimits{"zero_optimization.stage3_max_live_parameters", "zero_optimization.stage3_max_reuse_distance",
                             "zero_optimization.stage3_prefetch_bucket_size"};

// What the file says of keys, and which of them are the search's to choose.
class FileKeys {
 public:
  FileKeys(const Subject& subject, const FitRequest& request) : values_(*subject.loaded.values), request_(request) {}

  // Whether the file has a value for it.
  bool has(const std::string& path) const {
    const Value* value = values_.find(path);
    return value != nullptr && value->origin == Origin::Given && !(request_.stage_is_free && path == kStage);
  }
  // Whether it is not the search's to choose.
  bool is_given(const std::string& path) const { return has(path) || (chooses_autos() && !is_auto(path)); }
  // Whether the file says "auto" of it, and the search fills that in.
  bool is_auto(const std::string& path) const { return request_.autos.contains(path); }
  // Whether the search fills in "auto", and what the file leaves out has its default.
  bool chooses_autos() const { return !request_.autos.empty(); }
  json value(const std::string& path, const json& other) const {
    const Value* value = values_.find(path);
    return value == nullptr ? other : value->value;
  }

 private:
  const schema::Values& values_;
  const FitRequest& request_;
};

std::string placement_name(int64_t stage, const std::string& parameters, const std::string& state) {
  const auto tier = [](const std::string& device) { return device == "cpu" ? "on the host" : "in files"; };
  std::string out = fmt::format("stage {}", stage);
  if (parameters != "none") out += fmt::format(", parameters {}", tier(parameters));
  if (state != "none") out += fmt::format(", state {}", tier(state));
  return out;
}

// "": something may rest in files.
std::string why_not_in_files(const FileKeys& keys, const Machine* machine, const json& folders, const std::string& why_no_folders) {
  if (folders.empty())
    return fmt::format("no nvme_path is given (--set {}.nvme_path=FOLDER)",
                       keys.is_given(fmt::format("{}.device", kStateBlock)) ? kParameterBlock : kStateBlock);
  if (!why_no_folders.empty()) return why_no_folders;
  const bool knows_disk = machine == nullptr || (machine->file_read.is_known() && machine->file_write.is_known());
  return knows_disk ? "" : "the machine's figures tell nothing of its disk";
}

// Stages with the tiers that each may have, from the simplest to what needs least of the device: all that keep everything on the device,
// then those that use the host, then those that use files.
std::vector<FitOption> placements(const FileKeys& keys, const Machine* machine, const std::string& why_no_folders, FitResult& result) {
  const auto devices = [&](const std::string& block) -> std::vector<std::string> {
    if (keys.is_given(block + ".device")) return {keys.value(block + ".device", "none")};
    return {"none", "cpu", "nvme"};
  };
  std::vector<int64_t> stages = {0, 1, 2, 3};
  if (keys.is_given(kStage)) stages = {keys.value(kStage, 0)};
  const json folders = keys.has(std::string(kStateBlock) + ".nvme_path")
                           ? keys.value(std::string(kStateBlock) + ".nvme_path", json::array())
                           : keys.value(std::string(kParameterBlock) + ".nvme_path", json::array());
  const std::string why_no_files = why_not_in_files(keys, machine, folders, why_no_folders);
  std::array<std::vector<FitOption>, 3> by_tier;
  for (const int64_t stage : stages)
    for (const std::string& parameters : devices(kParameterBlock))
      for (const std::string& state : devices(kStateBlock)) {
        const bool has_files = parameters == "nvme" || state == "nvme";
        if ((parameters != "none" && stage < 3) || (state != "none" && stage < 1)) continue;
        if (has_files && !why_no_files.empty()) {
          result.why_no_files = why_no_files;
          continue;
        }
        FitOption option{placement_name(stage, parameters, state), {{kStage, stage}}};
        for (const auto& [block, device] :
             {std::pair(std::string(kParameterBlock), &parameters), std::pair(std::string(kStateBlock), &state)}) {
          const std::string key = block + ".device";
          if (*device != "none" || keys.is_given(key) || keys.is_auto(key) || keys.has(block + ".nvme_path"))
            option.settings.push_back({key, *device});
          if (*device == "nvme" && !keys.has(block + ".nvme_path")) option.settings.push_back({block + ".nvme_path", folders});
          // Folders that nothing rests in would only be warned of.
          if (*device != "nvme" && keys.has(block + ".nvme_path")) option.settings.push_back({block + ".nvme_path", nullptr});
        }
        const bool has_host = parameters == "cpu" || state == "cpu";
        nth(by_tier, has_files ? 2 : has_host ? 1 : 0).push_back(std::move(option));
      }
  std::vector<FitOption> out;
  for (const std::vector<FitOption>& options : by_tier) out.insert(out.end(), options.begin(), options.end());
  return out;
}

std::vector<FitOption> recomputations(const FileKeys& keys, const Config& config, int num_units) {
  if (!config.step.uses_backprop()) return {{"as given", {}}};
  const bool has_segments = keys.is_given(kSegments), has_host = keys.is_given(kHostCheckpoints);
  if (has_segments && !has_host && config.number_checkpoints != 0)
    return {{"recomputation from the device", {}}, {"recomputation from the host", {{kHostCheckpoints, true}}}};
  if (has_segments) return {{"as given", {}}};
  const auto segments = static_cast<int64_t>(std::lround(std::sqrt(num_units)));
  std::vector<FitOption> out = {{"nothing recomputed", {{kSegments, 0}}}};
  if (segments > 1) out.push_back({fmt::format("recomputation in {} segments", segments), {{kSegments, segments}}});
  out.push_back({"recomputation of every unit", {{kSegments, -1}}});
  if (!has_host) out.push_back({"recomputation of every unit from the host", {{kSegments, -1}, {kHostCheckpoints, true}}});
  return out;
}

std::vector<FitOption> queries_per_pass(const FileKeys& keys, const Config& config) {
  if (!config.step.uses_queries() || config.step.queries == 1 || keys.is_given(kPerPass)) return {{"as given", {}}};
  std::vector<FitOption> out;
  for (int64_t k = 1;; k = std::min(2 * k, config.step.queries)) {
    out.push_back({fmt::format("{} quer{} a pass", k, k == 1 ? "y" : "ies"), {{kPerPass, k}}});
    if (k == config.step.queries) return out;
  }
}

// In ascending order. Where the file does not give the global batch it follows from the micro-batch, but where "auto" is filled in: that
// changes nothing of what is computed, and what "auto" stands for without a search says how large the batch is.
std::vector<FitOption> micro_batches(const FileKeys& keys, const Config& config, int world) {
  constexpr int64_t kMostFree = 256;  // products of so many samples have long reached their full speed, and the search has an end
  if (!config.step.uses_backprop() || keys.is_given(kMicroBatch)) return {{"as given", {}}};
  const bool has_batch = keys.has("train_batch_size"), keeps_batch = has_batch || keys.chooses_autos();
  const int64_t samples = keeps_batch ? config.batch.train_batch_size / world : 0;
  const int64_t accumulation = keys.has("gradient_accumulation_steps") ? config.batch.accumulation_steps : 0;
  std::vector<FitOption> out;
  for (int64_t m = 1; m <= (samples > 0 ? samples : kMostFree); m = samples > 0 ? m + 1 : 2 * m) {
    if (samples > 0 && (samples % m != 0 || (accumulation > 0 && samples / m != accumulation))) continue;
    out.push_back({fmt::format("micro-batch {}", m), {{kMicroBatch, m}}});
    if (keeps_batch && !has_batch) out.back().settings.push_back({"gradient_accumulation_steps", samples / m});
  }
  return out;
}

// Limits of stage 3, from what keeps most on the device to what keeps least. Between a unit's forward and its backward lie all units behind
// it twice, and again where they are recomputed: kept for N elements are those of the last half, of N elements in all.
std::vector<FitOption> residencies(const FileKeys& keys, int64_t elements) {
  std::vector<std::string> chosen;
  for (const char* path : kLimits)
    if (!keys.is_given(path)) chosen.emplace_back(path);
  const int64_t ahead = ZeroConfig().stage3_prefetch_bucket_size;
  struct Limits {
    const char* name;
    int64_t live, reuse, prefetch;
  };
  std::vector<FitOption> out;
  for (const Limits& limits : {Limits{"every unit kept between forward and backward", elements, 3 * elements, ahead},
                               {"half of the units kept", elements / 2, elements, ahead},
                               {"a quarter of the units kept", elements / 4, elements / 2, ahead},
                               {"one unit and the next", 0, 0, ahead},
                               {"one unit at a time", 0, 0, 0}}) {
    FitOption option{limits.name, {}};
    for (const std::string& key : chosen)
      option.settings.push_back({key, key.ends_with("bucket_size") ? limits.prefetch
                                      : key.ends_with("distance")  ? limits.reuse
                                                                   : limits.live});
    // Beside values that others of them have the names would not hold.
    if (chosen.size() < kLimits.size()) {
      option.name.clear();
      for (const FitSetting& setting : option.settings)
        option.name += (option.name.empty() ? "" : ", ") + setting.path.substr(setting.path.find('.') + 1) + " " + setting.value.dump();
      if (option.name.empty()) option.name = "as given";
    }
    if (out.empty() || out.back().settings != option.settings) out.push_back(std::move(option));
  }
  if (!keys.is_given(kPersistence)) {
    FitOption option = out.back();
    option.name += ", no small parameter kept";
    option.settings.push_back({kPersistence, 0});
    out.push_back(std::move(option));
  }
  return out;
}

// The keys that options of a dimension differ in, but what the file gives.
std::vector<std::string> chosen_keys(const FitResult& result, const FileKeys& keys) {
  std::vector<std::string> out;
  for (const std::vector<FitOption>& options : result.dimensions)
    for (const FitOption& option : options)
      for (const FitSetting& setting : option.settings)
        if (options.size() > 1 && !keys.is_given(setting.path) && std::find(out.begin(), out.end(), setting.path) == out.end())
          out.push_back(setting.path);
  return out;
}

// "KEY VALUE" of each key that the search would choose had the file not given it.
std::vector<std::string> kept_keys(const FileKeys& keys, const Config& config, bool gathers) {
  std::vector<std::string> paths{kStage, std::string(kParameterBlock) + ".device", std::string(kStateBlock) + ".device"};
  if (config.step.uses_backprop()) paths.insert(paths.end(), {kSegments, kHostCheckpoints});
  if (config.step.uses_queries() && config.step.queries > 1) paths.emplace_back(kPerPass);
  if (config.step.uses_backprop()) paths.emplace_back(kMicroBatch);
  if (gathers) paths.insert(paths.end(), kLimits.begin(), kLimits.end());
  std::vector<std::string> out;
  for (const std::string& path : paths)
    if (keys.has(path)) out.push_back(fmt::format("{} {}", path, keys.value(path, nullptr).dump()));
  return out;
}

}  // namespace

const std::vector<FitKey>& fit_keys() {
  static const std::vector<FitKey> keys = {{kStage, false},
                                           {"zero_optimization.offload_param.device", false},
                                           {"zero_optimization.offload_optimizer.device", false},
                                           {kSegments, false},
                                           {kHostCheckpoints, false},
                                           {kPerPass, false},
                                           {kMicroBatch, false},
                                           {kLimits[0], false},
                                           {kLimits[1], false},
                                           {kLimits[2], true},
                                           {kPersistence, true},
                                           {kRatio, false},
                                           {kHostElements, false},
                                           {kParameterBuffers, false},
                                           {kStateBuffers, false}};
  return keys;
}

int64_t stage_of(const FitOption& placement) { return placement.settings.front().value.get<int64_t>(); }

std::string tier_of(const FitOption& placement, const std::string& block) {
  for (const FitSetting& setting : placement.settings)
    if (setting.path == block + ".device") return setting.value;
  return "none";
}

void find_options(const Subject& subject, const FitRequest& request, FitResult& result) {
  const Config& config = subject.config();
  const FileKeys keys(subject, request);
  const auto units = subject.model->units();
  int64_t elements = 0;
  for (const UnitInfo& unit : units) elements += unit.num_elements();
  result.dimensions = {placements(keys, request.machine, request.why_no_folders, result),
                       recomputations(keys, config, static_cast<int>(units.size())),
                       queries_per_pass(keys, config),
                       micro_batches(keys, config, request.world),
                       {{"as given", {}}}};
  result.batch_follows =
      !keys.has("train_batch_size") && !keys.chooses_autos() && nth(result.dimensions, FitDimension::MicroBatch).size() > 1;
  const std::vector<FitOption>& placed = nth(result.dimensions, FitDimension::Placement);
  const bool gathers = std::any_of(placed.begin(), placed.end(), [](const FitOption& option) { return stage_of(option) == 3; });
  if (gathers) nth(result.dimensions, FitDimension::Residency) = residencies(keys, elements);
  const auto rests = [&](const char* block, std::initializer_list<const char*> tiers) {
    return std::any_of(placed.begin(), placed.end(), [&](const FitOption& option) {
      return std::any_of(tiers.begin(), tiers.end(), [&](const char* tier) { return tier_of(option, block) == tier; });
    });
  };
  result.fillable = {.ratio = !keys.is_given(kRatio) && rests(kStateBlock, {"cpu", "nvme"}),
                     .host_elements = !keys.is_given(kHostElements) && rests(kParameterBlock, {"nvme"}),
                     .parameter_buffers = !keys.is_given(kParameterBuffers) && rests(kParameterBlock, {"nvme"}),
                     .state_buffers = !keys.is_given(kStateBuffers) && rests(kStateBlock, {"nvme"})};
  result.chosen = chosen_keys(result, keys);
  result.kept = kept_keys(keys, config, gathers);
  const auto add_fillable = [&](const char* key, bool is_free, bool is_used) {
    if (is_free) result.chosen.emplace_back(key);
    if (!is_free && is_used && keys.has(key)) result.kept.push_back(fmt::format("{} {}", key, keys.value(key, nullptr).dump()));
  };
  add_fillable(kRatio, result.fillable.ratio, rests(kStateBlock, {"cpu", "nvme"}));
  add_fillable(kHostElements, result.fillable.host_elements, rests(kParameterBlock, {"nvme"}));
  add_fillable(kParameterBuffers, result.fillable.parameter_buffers, rests(kParameterBlock, {"nvme"}));
  add_fillable(kStateBuffers, result.fillable.state_buffers, rests(kStateBlock, {"nvme"}));
}

}  // namespace zerostep
