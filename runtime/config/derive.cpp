#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "runtime/config/deriver.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

// What Hugging Face's integration fills in for "auto" where that is not the default.
constexpr int64_t kAutoMicroBatch = 8;

// Not the key's default, and not off where that is nothing but a missing value.
bool asks_for_something(std::string_view path, const json& value) {
  const Key* key = find(path);
  const json otherwise = key == nullptr || key->value.empty() ? json() : json::parse(key->value);
  const bool turns_off = value == json(false) || (value.is_number() && value.get<double>() == 0);
  return turns_off ? otherwise == json(true) : value != otherwise;
}

// Of one folder, fit for a terminal and a log.
bool is_folder_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\x7f") == std::string::npos && printable(name) == name;
}

}  // namespace

Deriver::Deriver(Values& values, const ConfigRequest& request, Findings& findings)
    : v_(values), world_(request.world), started_(request.started), findings_(findings) {
  for (const auto& [path, value] : v_.all()) {
    if (value.origin == Origin::Auto) auto_.insert(path);
  }
  for (const std::string& path : auto_) v_.erase(path);
  for (const Setting& setting : request.set)
    if (setting.is_automatic) chosen_.push_back(setting.text.substr(0, setting.text.find('=')));
}

void Deriver::run() {
  defaults();
  batch();
  sources();
  model();
  sequence_length();
  queries();
  data_and_run();
  optimizer_and_scheduler();
  precision();
  sharding();
  for (const std::string& path : auto_) {
    if (Value* value = v_.find(path)) {
      value->origin = Origin::Auto;
      value->written = true;
    }
  }
  for (const std::string& path : chosen_)
    if (Value* value = v_.find(path)) value->origin = Origin::Auto;
  contexts();
}

void Deriver::run_contexts() {
  defaults();
  for (const char* list : kSourceLists) v_.set_sources(list, sources_as_written(list));
  contexts();
}

void Deriver::defaults() {
  // The types come first: they decide which parameters there are.
  std::string optimizer, scheduler;
  if (!v_.has("optimizer.type")) {
    v_.set("optimizer.type", "AdamW", Origin::Default);
    findings_.warn("optimizer.type is not given: AdamW is used, with the lr and the other values that `config` shows");
  }
  optimizer = v_.text("optimizer.type");
  if (v_.has("scheduler.type")) scheduler = v_.text("scheduler.type");
  for (const Key& key : keys()) {
    if (key.list != List::Honoured || key.value.empty() || v_.has(key.path) || key.path.find("[]") != std::string_view::npos) continue;
    const bool is_scheduler_key = key.path.starts_with("scheduler.params.");
    if (is_scheduler_key && scheduler.empty()) continue;
    if (key.path.starts_with("model.") && v_.has("model.path") && !is_beside_path(key.path)) continue;
    const std::string of = is_scheduler_key ? scheduler : key.path.starts_with("model.") ? family() : optimizer;
    if (!key.of.empty() && !has_word(key.of, of)) continue;
    v_.set(key.path, json::parse(key.value), Origin::Default);
  }
  if (v_.has("gradient_clipping")) return;
  const bool off = mode() == "zo";
  v_.set("gradient_clipping", off ? 0.0 : 1.0, Origin::Default);
  if (off) v_.find("gradient_clipping")->note = "off: estimates are about sqrt(parameters) times as long as gradients";
}

int64_t Deriver::data_ranks() const {
  const int64_t groups = v_.integer("step.direction_parallel");
  return mode() == "zo" && world_ % groups == 0 ? world_ / groups : world_;
}

void Deriver::batch() {
  const int64_t ranks_of_batch = data_ranks();
  constexpr std::string_view kTrain = "train_batch_size", kMicro = "train_micro_batch_size_per_gpu", kSteps = "gradient_accumulation_steps";
  if (!v_.has(kTrain) && !v_.has(kMicro) && (is_auto(kTrain) || is_auto(kMicro))) v_.set(kMicro, kAutoMicroBatch, Origin::Auto);
  const int64_t train = integer_or(kTrain, 0), micro = integer_or(kMicro, 0), steps = integer_or(kSteps, 0);
  const std::string ranks = ranks_of_batch == 1 ? "1 data-parallel rank" : fmt::format("{} data-parallel ranks", ranks_of_batch);
  const auto fill = [&](std::string_view path, int64_t value) {
    v_.set(path, value, Origin::Derived);
    v_.find(path)->written = false;
  };
  if (train == 0 && micro == 0) {
    return findings_.error(kTrain, fmt::format("is missing, and so is {}: give one of them, the rest follows from {}", kMicro, ranks));
  }
  // What the given values make, in 128 bits: the product of three values in range may not fit 64.
  using Wide = __int128;
  const Wide made = static_cast<Wide>(micro > 0 ? micro : 1) * (steps > 0 ? steps : 1) * ranks_of_batch;
  if (train == 0) {
    if (made > kLargestBatch) {
      return findings_.error(kMicro, fmt::format("{} x {} {} x {} is beyond the largest batch, {}", micro, kSteps,
                                                 std::max<int64_t>(steps, 1), ranks, kLargestBatch));
    }
    fill(kTrain, static_cast<int64_t>(made));
    if (steps == 0) fill(kSteps, 1);
    return;
  }
  std::string factors;
  if (micro > 0) factors += fmt::format("{} {} x ", kMicro, micro);
  if (steps > 0) factors += fmt::format("{} {} x ", kSteps, steps);
  factors += ranks;
  if (micro > 0 && steps > 0) {
    if (made != train) {
      findings_.error(kTrain, fmt::format("is {}, but {} = {}: change one of them, or leave one out", train, factors,
                                          made > kLargestBatch ? "more than " + std::to_string(kLargestBatch)
                                                               : std::to_string(static_cast<int64_t>(made))));
    }
    return;
  }
  if (train % made != 0) {
    const auto divisor = static_cast<int64_t>(std::min<Wide>(made, INT64_MAX));
    return findings_.error(kTrain, fmt::format("is {}, which does not divide by {} = {} ({} = {} x {} + {}): choose a multiple of {}",
                                               train, factors, divisor, train, train / divisor, divisor, train % divisor, divisor));
  }
  const auto rest = static_cast<int64_t>(train / made);
  if (micro > 0) {
    fill(kSteps, rest);
  } else {
    fill(kMicro, rest);
    if (steps == 0) fill(kSteps, 1);
  }
}

std::string Deriver::more_than_positions(int64_t length) const {
  return fmt::format("is {}, more than model.{} {}{}", length, sizes_->positions_name, sizes_->positions,
                     sizes_->longest < sizes_->positions
                         ? fmt::format(" allows: a RoBERTa's positions begin behind pad_token_id, and {} are left", sizes_->longest)
                         : "");
}

void Deriver::sequence_length() {
  if (!sizes_) return;  // it has been said what the model lacks
  derived("data.sequence_length", sizes_->longest);
  const int64_t length = v_.integer("data.sequence_length");
  if (length > sizes_->longest) findings_.error("data.sequence_length", more_than_positions(length));
}

void Deriver::data_and_run() {
  if (!v_.has("run.name")) {
    v_.set("run.name", fmt::format("{}-{}", mode(), started_.empty() ? "DATE-TIME" : started_), Origin::Derived);
    v_.find("run.name")->note = "step.mode, date and time of the start";
    v_.find("run.name")->written = !started_.empty();
  }
  // What is begun anew once is not begun anew by whoever reads the resolved file.
  v_.find("run.overwrite")->written = false;
  const std::string name = v_.text("run.name");
  if (!is_folder_name(name))
    findings_.error("run.name", fmt::format("is {}; expected the name of one folder (run.output_dir is the path)", shown(name)));
  else if (name == ".cache")
    findings_.error("run.name", "is \".cache\", the folder of tokens and measurements below run.output_dir: choose another name");
  const bool has_path = !v_.text("tensorboard.output_path").empty();
  derived("tensorboard.job_name", has_path ? "DeepSpeedJobName" : "", has_path ? "DeepSpeed's name" : "the folder is the run's own");
  if (Value* job = v_.find("tensorboard.job_name"); job->origin == Origin::Derived) job->written = has_path;
  for (const std::string block : {"csv_monitor", "tensorboard"}) {
    const std::string path = block + ".job_name";
    const Value* job = v_.find(path);
    if (job != nullptr && job->value.is_string() && job->value != "" && !is_folder_name(v_.text(path)))
      findings_.error(path, fmt::format("is {}; expected the name of one folder ({}.output_path is the path)", shown(job->value), block));
  }
  for (std::string_view path : {"run.output_dir", "data.tokenizer"}) {
    if (v_.text(path).empty()) findings_.error(path, "is empty; expected a path");
  }
  if (v_.has("run.steps") && v_.has("run.epochs")) {
    findings_.error(
        "run.epochs",
        fmt::format("is {}, and run.steps is {}: both say when the run ends; keep one (--set run.epochs=null takes this one out)",
                    v_.number("run.epochs"), v_.integer("run.steps")));
  } else if (!v_.has("run.steps") && !v_.has("run.epochs")) {
    v_.set("run.epochs", 1.0, Origin::Default);
    v_.find("run.epochs")->note = "neither run.steps nor run.epochs is given";
  }
  const bool evaluates = v_.at("run.eval_interval") != json(0);
  if (v_.boolean("run.keep_best") && !evaluates)
    findings_.error("run.keep_best", "is true, but nothing is evaluated: set run.eval_interval");
  if (evaluates && v_.at("data.eval").empty())
    findings_.error("run.eval_interval",
                    fmt::format("is {}, but data.eval names nothing to evaluate on", v_.at("run.eval_interval").dump()));
  if (!v_.has("data.cache")) {
    derived("data.cache", fmt::format("{}/.cache", v_.text("run.output_dir")));
    v_.find("data.cache")->written = false;
  }
}

void Deriver::precision() {
  const bool fp16 = v_.boolean("fp16.enabled");
  if (fp16 && v_.boolean("bf16.enabled"))
    findings_.error("fp16.enabled", "and bf16.enabled are both true: compute has one type; turn one off");
  if (fp16 && v_.number("fp16.loss_scale") == 0) {
    const auto power = static_cast<int>(v_.integer("fp16.initial_scale_power"));
    const double smallest = v_.number("fp16.min_loss_scale");
    if (std::exp2(power) < smallest) {
      findings_.error("fp16.initial_scale_power", fmt::format("is {}, so that the loss scale starts at {}, below fp16.min_loss_scale {}",
                                                              power, std::exp2(power), smallest));
    }
  }
}

void Deriver::sharding() {
  const int64_t stage = v_.integer("zero_optimization.stage");
  derived("zero_optimization.overlap_comm", stage == 3);
  offload();
  bool any = false;
  for (const auto& [path, value] : v_.all()) {
    any = any || (path.starts_with("activation_checkpointing.") && value.value == json(true));
  }
  derived("activation_checkpointing.number_checkpoints", any ? -1 : 0);
}

void Deriver::offload() {
  const int64_t stage = v_.integer("zero_optimization.stage");
  const std::string p = "zero_optimization.offload_";
  for (const std::string what : {"param", "optimizer"}) {
    const Tier tier = offload_tier(v_, what);
    if (tier == Tier::Device) continue;
    const std::string path = p + what + ".device", folders = p + what + ".nvme_path";
    const int64_t lowest = what == "param" ? 3 : 1;
    if (stage < lowest)
      findings_.error(path, fmt::format("is \"{}\", which needs zero_optimization.stage {}{}: at stage {} {}", v_.text(path), lowest,
                                        lowest < 3 ? " or more" : "", stage,
                                        what == "param" ? "every rank computes on whole parameters" : "every rank updates everything"));
    if (v_.has(folders) && !v_.at(folders).empty())
      nvme_path(folders);
    else if (tier == Tier::File)
      findings_.error(folders, fmt::format("is missing: {} is \"nvme\", so name a folder on the disk that is to hold it", path));
  }
  const std::string optimizer = v_.text("optimizer.type");
  if (offload_tier(v_, "param") == Tier::File && (optimizer == "Muon" || optimizer == "MuDaMW"))
    findings_.error(
        p + "param.device",
        fmt::format("is \"nvme\": {} updates matrices of several units together, which must be in memory: use \"cpu\"", optimizer));
}

void Deriver::nvme_path(const std::string& path) {
  std::set<std::string> folders;
  for (const std::string& folder : v_.texts(path)) {
    const std::optional<std::string> name = expand_home(folder);
    if (!name)
      findings_.error(path,
                      fmt::format("is {}: only a \"~\" of its own stands for a folder, that of this user ($HOME)", json(folder).dump()));
    else if (!folders.insert((std::filesystem::path(*name) / "").lexically_normal().string()).second)
      findings_.error(path, fmt::format("names {} twice: name each folder once", json(folder).dump()));
  }
}

bool Deriver::names_no_rows_with_fields() const {
  bool names_any = false;
  for (const char* path : kSourceLists) {
    for (const std::string& file : files_of(v_.sources(path))) {
      names_any = true;
      std::string_view name = file;
      for (const std::string_view packed : {".gz", ".zst"})
        if (name.ends_with(packed)) name.remove_suffix(packed.size());
      const auto ends_so = [&](std::string_view ending) { return name.ends_with(ending); };
      constexpr std::array<std::string_view, 4> kOthers = {".txt", ".bin", ".tsv", ".csv"};
      if (std::none_of(kOthers.begin(), kOthers.end(), ends_so)) return false;  // rows, a folder, or a pattern that may match them
    }
  }
  return names_any;
}

std::map<Context, bool> Deriver::contexts_that_hold() const {
  const Tier param = offload_tier(v_, "param"), state = offload_tier(v_, "optimizer");
  const int64_t stage = v_.integer("zero_optimization.stage");
  return {
      {Context::StageBelow1, stage < 1},
      {Context::StageBelow3, stage < 3},
      {Context::StageNot1Or2, stage != 1 && stage != 2},
      {Context::Fp16Off, !v_.boolean("fp16.enabled")},
      {Context::Bf16Off, !v_.boolean("bf16.enabled")},
      {Context::StaticLossScale, v_.boolean("fp16.enabled") && v_.number("fp16.loss_scale") != 0},
      {Context::CsvMonitorOff, !v_.boolean("csv_monitor.enabled")},
      {Context::TensorBoardOff, !v_.boolean("tensorboard.enabled")},
      {Context::CommsLoggerOff, !v_.boolean("comms_logger.enabled")},
      {Context::FlopsProfilerOff, !v_.boolean("flops_profiler.enabled")},
      {Context::PrescaledGradients, v_.boolean("prescale_gradients")},
      {Context::AdamWGiven, v_.text("optimizer.type") == "AdamW"},
      {Context::SgdScheduled, v_.text("optimizer.type") == "SGD"},
      {Context::FirstOrderOnly, mode() == "fo"},
      {Context::NoIntervals, mode() != "calibrate" && mode() != "instruct"},
      {Context::NotAlternating, mode() != "alternating"},
      {Context::NotInstructed, mode() != "instruct"},
      {Context::NotLowRank, v_.text("step.perturbation") != "low_rank"},
      {Context::NotClipped, v_.text("step.scalar_transform") != "clip"},
      {Context::ForwardOnly, mode() == "zo"},
      {Context::Instructed, mode() == "instruct"},
      {Context::ParametersNotOffloaded, param == Tier::Device},
      {Context::ParametersNotInFiles, param != Tier::File},
      {Context::StateNotOffloaded, state == Tier::Device},
      {Context::StateNotInFiles, state != Tier::File},
      {Context::NothingInFiles, param != Tier::File && state != Tier::File},
      {Context::NotSplit, v_.text("step.bp_data") != "split"},
      {Context::NoRowsWithFields, v_.text("data.missing") == "skip" && names_no_rows_with_fields()},
  };
}

void Deriver::contexts() {
  const std::map<Context, bool> holds = contexts_that_hold();
  for (const ContextRule& rule : context_rules()) {
    if (!holds.at(rule.when)) continue;
    std::string given;
    for (std::string_view path : split_words(rule.keys)) {
      Value* value = v_.find(path);
      if (!value) continue;
      value->effective = false;
      value->note = fmt::format("without effect {}", name_of(rule.when));
      const bool asks = rule.when != Context::ForwardOnly || asks_for_something(path, value->value);
      if (value->origin == Origin::Given && asks) given += fmt::format("{}{}", given.empty() ? "" : ", ", path);
    }
    if (!given.empty()) {
      findings_.warn(fmt::format("{} {} no effect {}: {}", given, given.find(',') == std::string::npos ? "has" : "have", name_of(rule.when),
                                 rule.reason));
    }
  }
}

void derive(Values& values, const ConfigRequest& request, Findings& findings) { Deriver(values, request, findings).run(); }

std::set<std::string> keys_without_effect(const nlohmann::json& resolved) {
  Document document;
  document.root = resolved;
  Findings findings(document);  // which nobody asks for
  Values values = check_tree(document, findings);
  Deriver(values, {}, findings).run_contexts();
  std::set<std::string> out;
  for (const auto& [path, value] : values.all())
    if (!value.effective) out.insert(path);
  return out;
}

}  // namespace zerostep::schema
