#include <fmt/format.h>

#include "runtime/config/deriver.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

// What Hugging Face's integration fills in for "auto" where that is not the default.
constexpr double kAutoLearningRate = 5e-5;
constexpr int64_t kAutoWarmupSteps = 1;

}  // namespace

void Deriver::defaults_of_optimizer() {
  const std::string type = v_.text("optimizer.type");
  const auto set = [&](std::string_view name, json value) {
    const std::string path = fmt::format("optimizer.params.{}", name);
    if (has_word(find(path)->of, type) && !v_.has(path)) v_.set(path, std::move(value), Origin::Default);
  };
  set("eps", type == "MuDaMW" ? 1e-6 : 1e-8);
  set("momentum", type == "Muon" ? 0.95 : 0.0);
  set("nesterov", type == "Muon");
  for (const char* path : {"optimizer.params.muon_lr", "optimizer.params.adam_lr"})
    if (v_.has(path) && v_.number("optimizer.params.lr") == 0)
      findings_.error(path, "is a learning rate beside optimizer.params.lr 0, which a schedule scales: give lr a value above 0");
}

void Deriver::optimizer_and_scheduler() {
  if (is_auto("optimizer.params.lr")) v_.set("optimizer.params.lr", kAutoLearningRate, Origin::Auto);
  defaults_of_optimizer();
  if (!v_.has("scheduler.type")) return;
  const std::string type = v_.text("scheduler.type");
  const auto path = [](std::string_view name) { return fmt::format("scheduler.params.{}", name); };
  if (type == "WarmupLR" || is_auto(path("warmup_max_lr")))
    derived(path("warmup_max_lr"), v_.number("optimizer.params.lr"), "optimizer.params.lr");
  if (type == "WarmupDecayLR" && !v_.has(path("warmup_max_lr"))) v_.set(path("warmup_max_lr"), 0.001, Origin::Default);
  if (type.starts_with("Warmup") || type == "Cosine") {
    if (!v_.has(path("warmup_num_steps")))
      v_.set(path("warmup_num_steps"), is_auto(path("warmup_num_steps")) ? kAutoWarmupSteps : type == "Cosine" ? 0 : 1000, Origin::Default);
  }
  if (const std::string steps = path("warmup_num_steps");
      type.starts_with("Warmup") && v_.find(steps)->origin == Origin::Given && v_.integer(steps) < 2)
    findings_.warn(fmt::format(
        "{} is {}, which counts as 2 as in DeepSpeed: the first two updates go at the rate that the warm-up starts from ({})", steps,
        v_.integer(steps),
        type == "WarmupCosineLR" ? "0, and warmup_min_ratio of the optimizer's" : fmt::format("{}", v_.number(path("warmup_min_lr")))));
  const Key* total = find(path("total_num_steps"));
  if (has_word(total->of, type)) {
    if (v_.has("run.steps")) derived(path("total_num_steps"), v_.integer("run.steps"), "run.steps");
    const int64_t warmup = v_.integer(path("warmup_num_steps"));
    if (v_.has(path("total_num_steps")) && v_.integer(path("total_num_steps")) < warmup) {
      findings_.warn(fmt::format("scheduler.params.total_num_steps {} is less than warmup_num_steps {}: the warm-up never ends",
                                 v_.integer(path("total_num_steps")), warmup));
    }
  }
  if (type == "OneCycle") {
    for (std::string_view name : {"cycle_min_lr", "cycle_max_lr"}) {
      if (!v_.has(path(name))) findings_.error(path(name), "is missing: OneCycle has no default for it");
    }
    derived(path("cycle_second_step_size"), v_.integer(path("cycle_first_step_size")));
    derived(path("cycle_second_stair_count"), v_.integer(path("cycle_first_stair_count")));
  }
  warn_of_unused_rates(type);
  warn_of_early_end(type);
}

// Schedules with a maximum of their own take nothing from optimizer.params.lr, as in DeepSpeed.
void Deriver::warn_of_unused_rates(const std::string& type) {
  const auto path = [](std::string_view name) { return fmt::format("scheduler.params.{}", name); };
  const auto given = [&](const std::string& key) { return v_.has(key) && v_.find(key)->origin == Origin::Given; };
  const std::string lr = "optimizer.params.lr";
  const bool is_base_of_others = v_.has("optimizer.params.muon_lr") || v_.has("optimizer.params.adam_lr");  // which are scaled by it
  const auto warn = [&](const std::string& maximum, const std::string& more) {
    if (given(lr) && !is_base_of_others && v_.has(maximum) && v_.number(lr) != v_.number(maximum))
      findings_.warn(
          fmt::format("{} {} has no effect: {} goes by {}, which is {}{}", lr, v_.number(lr), type, maximum, v_.number(maximum), more));
  };
  const std::string warmup = path("warmup_max_lr");
  if (type == "WarmupLR" || type == "WarmupDecayLR")
    warn(warmup,
         given(warmup) ? "" : fmt::format(" where it is missing (DeepSpeed's default): set {} to {} for that rate", warmup, v_.number(lr)));
  if (type != "OneCycle" && type != "LRRangeTest") return;
  constexpr double kDefaultRate = 0.001;  // resolved files have it
  if (v_.number(lr) != kDefaultRate) warn(path(type == "OneCycle" ? "cycle_max_lr" : "lr_range_test_min_lr"), "");
  if (type != "OneCycle") return;
  const bool has_betas = v_.has("optimizer.params.betas"), cycles = has_betas && v_.boolean(path("cycle_momentum"));
  if (cycles && given("optimizer.params.betas") && v_.at("optimizer.params.betas") != json({0.9, 0.999}))
    findings_.warn(
        fmt::format("optimizer.params.betas {} has no effect: OneCycle's cycle_momentum moves the first beta between cycle_min_mom {} and "
                    "cycle_max_mom {} and makes the second 0.99; set scheduler.params.cycle_momentum to false to keep them",
                    v_.at("optimizer.params.betas").dump(), v_.number(path("cycle_min_mom")), v_.number(path("cycle_max_mom"))));
  for (const char* name : {"cycle_min_mom", "cycle_max_mom", "decay_mom_rate"})
    if (!cycles && given(path(name)) && v_.at(path(name)) != json::parse(find(path(name))->value))
      findings_.warn(fmt::format("{} {} has no effect: {}", path(name), v_.number(path(name)),
                                 has_betas ? "cycle_momentum is false" : "the optimizer has no betas to cycle"));
  for (const char* name : {"decay_lr_rate", "decay_mom_rate"})
    if (given(path(name)) && v_.number(path(name)) > 0 && v_.integer(path("decay_step_size")) == 0)
      findings_.warn(fmt::format("{} {} has no effect: scheduler.params.decay_step_size is 0, which decays nothing", path(name),
                                 v_.number(path(name))));
}

// A schedule that ends before the run leaves the rate at its floor.
void Deriver::warn_of_early_end(const std::string& type) {
  const std::string path = "scheduler.params.total_num_steps";
  if (!has_word(find(path)->of, type) || !v_.has(path) || !v_.has("run.steps")) return;
  const int64_t total = v_.integer(path), steps = v_.integer("run.steps"), warmup = v_.integer("scheduler.params.warmup_num_steps");
  if (total >= steps || total < warmup) return;
  const double lr = v_.number("optimizer.params.lr");
  const double floor = type == "WarmupDecayLR"    ? v_.number("scheduler.params.warmup_min_lr")
                       : type == "WarmupCosineLR" ? lr * v_.number("scheduler.params.cos_min_ratio")
                                                  : lr * v_.number("scheduler.params.min_lr_ratio");
  findings_.warn(fmt::format("{} {} is less than run.steps {}: the rate is {} in the steps after it", path, total, steps, floor));
}

}  // namespace zerostep::schema
