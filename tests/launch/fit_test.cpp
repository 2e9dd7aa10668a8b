#include "launch/fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/nth.h"
#include "tests/launch/support/fit_place.h"
#include "tests/runtime/support/machines.h"

// `plan --fit` against `plan` of the same settings one by one.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class Fit : public FitPlace {};

TEST_F(Fit, NothingThatFitsIsFaster) {
  constexpr double kBytes = 9.5e6;  // little more than a unit, what kernels take and what LibTorch leaves unfilled
  const Outcome fitted = plan("run.json", {"--fit", "--json", "--set", limit(kBytes)});
  ASSERT_EQ(fitted.status, 0) << fitted.err;
  const json best = json::parse(fitted.out)["best"];
  double most = 0;
  // The space, planned by the other command.
  for (const std::string stage : {"0", "1", "2", "3"})
    for (const std::string parameters : {"none", "cpu", "nvme"})
      for (const std::string state : {"none", "cpu", "nvme"})
        for (const std::string micro_batch : {"1", "2"}) {
          if ((stage < "3" && parameters != "none") || (stage < "1" && state != "none")) continue;
          std::vector<std::string> more{"--json"};
          for (const std::string& set :
               {limit(0.95 * kBytes), "zero_optimization.stage=" + stage, "zero_optimization.offload_param.device=" + parameters,
                "zero_optimization.offload_param.nvme_path=" + place_.path("disk"), "zero_optimization.offload_optimizer.device=" + state,
                "train_micro_batch_size_per_gpu=" + micro_batch})
            more.insert(more.end(), {"--set", set});
          const Outcome planned = plan("run.json", more);
          if (planned.status == 0) most = std::max(most, json::parse(planned.out)["tokens_per_second"].get<double>());
        }
  EXPECT_GT(most, 0);
  EXPECT_GE(best["tokens_per_second"].get<double>(), 0.99 * most);
  // The written file says the same of itself.
  const Outcome again = plan("run.fit.json", {"--json", "--set", limit(kBytes)});
  ASSERT_EQ(again.status, 0) << again.err;
  const json written = json::parse(again.out);
  EXPECT_EQ(written["tokens_per_second"], best["tokens_per_second"]);
  EXPECT_EQ(needed_of(written), best["needed_bytes"]["device"].get<int64_t>());
  EXPECT_EQ(written["host_peak_bytes"], best["needed_bytes"]["host"]);
  EXPECT_EQ(written["file_peak_bytes"], best["needed_bytes"]["file"]);
  EXPECT_LE(best["needed_bytes"]["device"].get<double>(), kBytes);
}

// A unit that is kept from its forward to its backward is gathered once a step.
TEST_F(Fit, UnitsAreKeptAsItIsSaid) {
  place_.write("many.json", file("3", ""));
  const auto gathered = [&](int64_t live, int64_t reuse) {
    std::vector<std::string> more{"--json"};
    const std::string limits[] = {"model.n_layer=12", "train_micro_batch_size_per_gpu=8",
                                  "zero_optimization.stage3_max_live_parameters=" + std::to_string(live),
                                  "zero_optimization.stage3_max_reuse_distance=" + std::to_string(reuse)};
    for (const std::string& set : limits) more.insert(more.end(), {"--set", set});
    return json::parse(plan("many.json", more).out)["elements_gathered"].get<double>();
  };
  const double once = gathered(1 << 30, 1 << 30), twice = gathered(0, 0);
  EXPECT_NEAR(twice / once, 2, 0.2);
  ASSERT_EQ(plan("many.json", {"--fit", "--set", "model.n_layer=12", "--set", "train_micro_batch_size_per_gpu=8"}).status, 0);
  EXPECT_EQ(json::parse(plan("many.fit.json", {"--json", "--set", "model.n_layer=12"}).out)["elements_gathered"].get<double>(), once);
}

// SGD without momentum in fp32 keeps nothing beside the parameters, and queries have no gradients.
TEST_F(Fit, NamesNoTierForNoState) {
  json config = json::parse(file("1", R"("step": {"mode": "zo", "queries": 2},)"));
  config["optimizer"] = {{"type", "SGD"}};
  place_.write("idle.json", config.dump());
  const json free = json::parse(plan("idle.json", {"--fit", "--json"}).out)["placements"];
  ASSERT_EQ(free.size(), 1u) << free;
  EXPECT_EQ(free[0]["settings"]["zero_optimization.offload_optimizer.device"], "none");
  // What the file names stays.
  config["zero_optimization"]["offload_optimizer"]["device"] = "cpu";
  place_.write("idle.json", config.dump());
  EXPECT_EQ(json::parse(plan("idle.json", {"--fit", "--json"}).out)["placements"].size(), 1u);
}

// A step of many micro-batches is planned by a few of them.
TEST_F(Fit, ManyMicroBatchesAreWhatPlanSaysOfThem) {
  for (const char* batch : {"train_batch_size=128", "train_batch_size=4096"}) {
    const Outcome fitted = plan("run.json", {"--fit", "--json", "--set", batch, "--set", "train_micro_batch_size_per_gpu=1"});
    ASSERT_EQ(fitted.status, 0) << fitted.err;
    const json best = json::parse(fitted.out)["best"];
    const json written = json::parse(plan("run.fit.json", {"--json"}).out);
    EXPECT_NEAR(written["tokens_per_second"].get<double>() / best["tokens_per_second"].get<double>(), 1, 0.01) << batch;
    EXPECT_EQ(needed_of(written), best["needed_bytes"]["device"].get<int64_t>()) << batch;
  }
}

TEST_F(Fit, EveryCandidateIsWhatPlanSaysOfIt) {
  const json fit = json::parse(plan("run.json", {"--fit", "--json", "--set", limit(10e6)}).out);
  EXPECT_EQ(fit["capacity_bytes"]["device"], 10000000);  // the device's, whatever of it is left to libraries
  int fitting = 0, lacking = 0;
  for (const json& candidate : fit["placements"]) {
    std::vector<std::string> more = settings(candidate);
    more.insert(more.end(), {"--json", "--set", limit(10e6)});
    const json planned = json::parse(plan("run.json", more).out);
    EXPECT_EQ(needed_of(planned), candidate["needed_bytes"]["device"].get<int64_t>()) << candidate;
    EXPECT_EQ(planned["file_peak_bytes"], candidate["needed_bytes"]["file"]) << candidate;
    if (candidate["fits"].get<bool>()) {
      ++fitting;
      EXPECT_EQ(planned["tokens_per_second"], candidate["tokens_per_second"]) << candidate;
      EXPECT_LE(static_cast<double>(needed_of(planned)), 0.95 * 10e6);
    } else {
      ++lacking;
      EXPECT_EQ(candidate["lacking_bytes"]["device"].get<int64_t>(),
                candidate["needed_bytes"]["device"].get<int64_t>() - static_cast<int64_t>(0.95 * 10e6));
    }
  }
  EXPECT_GT(fitting, 0);
  EXPECT_GT(lacking, 0);
}

TEST_F(Fit, SaysWhatIsMissingWhereNothingFits) {
  const Outcome none = plan("run.json", {"--fit", "--json", "--set", limit(1e5)});
  EXPECT_EQ(none.status, 2);
  const json fit = json::parse(none.out);
  EXPECT_TRUE(fit["best"].is_null());
  const json& nearest = fit["placements"][0];
  std::string bytes = std::to_string(nearest["lacking_bytes"]["device"].get<int64_t>());
  for (int i = static_cast<int>(bytes.size()) - 3; i > 0; i -= 3) bytes.insert(static_cast<size_t>(i), ",");
  EXPECT_SAYS(none.err, "a rank lacks " + bytes + " bytes of device memory");
  EXPECT_SAYS(none.err, "more ranks");
  for (const json& candidate : fit["placements"]) {
    EXPECT_FALSE(candidate["fits"].get<bool>());
    EXPECT_GE(candidate["lacking_bytes"]["device"].get<int64_t>(), nearest["lacking_bytes"]["device"].get<int64_t>());
  }
  EXPECT_FALSE(place_.exists("run.fit.json"));
}

// Small parameters stay on the device unless that is what does not fit; a threshold that the file gives stands.
TEST_F(Fit, LetsSmallParametersGoWhereNothingElseFits) {
  json config = json::parse(file("\"auto\"", ""));
  config["zero_optimization"].erase("stage3_param_persistence_threshold");
  place_.write("small.json", config.dump());
  const std::string key = "zero_optimization.stage3_param_persistence_threshold";
  EXPECT_EQ(plan("small.json", {"--fit", "--json", "--set", limit(8.5e6), "--set", key + "=100000"}).status, 2);
  const Outcome done = plan("small.json", {"--fit", "--json", "--set", limit(8.5e6)});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(json::parse(done.out)["best"]["settings"][key], 0);
  EXPECT_EQ(plan("small.fit.json", {"--set", limit(8.5e6)}).status, 0);
  const Outcome roomy = plan("small.json", {"--fit", "--json", "--set", limit(5e7)});
  ASSERT_EQ(roomy.status, 0) << roomy.err;
  EXPECT_FALSE(json::parse(roomy.out)["best"]["settings"].contains(key));
}

TEST_F(Fit, KeepsWhatTheFileGives) {
  place_.write("given.json", file("2", R"("train_micro_batch_size_per_gpu": 4,)"));
  const Outcome text = plan("given.json", {"--fit"});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_SAYS(text.out, "kept as the file gives them (\"auto\" frees them): zero_optimization.stage 2");
  EXPECT_SAYS(text.out, "train_micro_batch_size_per_gpu 4");
  EXPECT_TRUE(std::regex_search(text.out, std::regex("\n  predicted [0-9.]+ ms a step, "))) << "as plan writes it: " << text.out;
  const json written = json::parse(place_.read("given.fit.json"), nullptr, true, true);
  EXPECT_EQ(written["zero_optimization"]["stage"], 2);
  EXPECT_EQ(written["train_micro_batch_size_per_gpu"], 4);
  EXPECT_EQ(written["train_batch_size"], 16);
  EXPECT_EQ(written["model"]["n_layer"], 3);
  EXPECT_EQ(plan("given.json", {"--fit"}).status, 0) << "its own file may be written again";
  place_.write("given.fit.json", "{}");
  const Outcome refused = plan("given.json", {"--fit"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "given.fit.json: that exists and is nothing that --out wrote before");
  EXPECT_EQ(place_.read("given.fit.json"), "{}");
  for (const std::string& nowhere : {std::string("/proc/other.json"), place_.path(std::string(250, 'o'))}) {
    const Outcome done = plan("given.json", {"--fit", "--out", nowhere});
    EXPECT_EQ(done.status, 2);
    EXPECT_EQ(count(done.err, nowhere + ": no file can be made there: "), 1u) << done.err;
    EXPECT_EQ(done.out, "") << "it is refused before the search";
  }
  EXPECT_EQ(plan("given.json", {"--fit", "--out", place_.path("other.json")}).status, 0);
  EXPECT_TRUE(place_.exists("other.json"));
}

// What stage 0 cannot have is no contradiction while the stage is yet to be chosen.
TEST_F(Fit, ChoosesAStageForTheTiersThatAreGiven) {
  for (const char* stage : {"\"auto\"", "null"}) {
    place_.write("given.json", file(stage, ""));
    const Outcome fitted = plan(
        "given.json", {"--fit", "--json", "--set", "zero_optimization.offload_optimizer.device=cpu", "--out", place_.path("out.json")});
    ASSERT_EQ(fitted.status, 0) << fitted.err;
    const json fit = json::parse(fitted.out);
    EXPECT_EQ(fit["kept"], json({"zero_optimization.offload_optimizer.device \"cpu\""}));
    std::set<int> stages;
    for (const json& candidate : fit["placements"]) stages.insert(candidate["settings"]["zero_optimization.stage"].get<int>());
    EXPECT_EQ(stages, (std::set<int>{1, 2, 3}));
  }
}

TEST_F(Fit, QueriesShareAGatherWhereMemoryAllows) {
  const std::string queries = R"("step": {"mode": "zo", "queries": 8},)";
  place_.write("zo.json", file("3", queries));
  const auto best = [&](double bytes) {
    const Outcome fitted = plan("zo.json", {"--fit", "--json", "--device", "cpu", "--set", limit(bytes)});
    EXPECT_EQ(fitted.status, 0) << fitted.err;
    return json::parse(fitted.out)["best"];
  };
  // Half of the units stay; the others are gathered once a pass. Of a processor, whose tensors take their bytes alone: a GPU's pieces of
  // memory would be many times as large as these steps.
  const json narrow = best(2.4e6), wide = best(2.6e6);
  EXPECT_EQ(narrow["settings"]["step.queries_per_pass"], 1);
  EXPECT_EQ(wide["settings"]["step.queries_per_pass"], 2);
  EXPECT_GT(wide["tokens_per_second"].get<double>(), narrow["tokens_per_second"].get<double>());
  // Where all of them stay, one pass after the other is as fast, and simpler.
  EXPECT_EQ(best(1e8)["settings"]["step.queries_per_pass"], 1);
}

// What was measured of one candidate says nothing of the others of its placement.
TEST_F(Fit, ShowsTheFastestOfAPlacementThatFits) {
  const auto candidate = [](int placement, int micro_batch, const std::string& plan, double speed, int64_t lacks) {
    FitCandidate out;
    nth(out.options, FitDimension::Placement) = placement;
    nth(out.options, FitDimension::MicroBatch) = micro_batch;
    out.plan_hash = plan;
    out.tokens_per_second = speed;
    out.lacks.device = lacks;
    return out;
  };
  const FitCandidate best = candidate(0, 0, "best", 100, 0), slow = candidate(1, 0, "slow", 50, 0),
                     slower = candidate(1, 2, "slower", 20, 0), refuted = candidate(1, 1, "refuted", 200, 5),
                     near = candidate(2, 0, "near", 0, 3), far = candidate(2, 1, "far", 0, 9);
  FitResult result;
  for (const auto& order :
       std::vector<std::vector<FitCandidate>>{{best, slow, slower, refuted, near, far}, {best, far, refuted, slower, near, slow}}) {
    result.candidates = order;
    result.best = 0;
    std::vector<std::string> shown;
    for (const FitCandidate* c : result.placements()) shown.push_back(c->plan_hash);
    EXPECT_EQ(shown, (std::vector<std::string>{"best", "slow", "near"}));
  }
}

// What libraries take on this machine refutes the residency that the search stops at: one that keeps less is found all the same.
TEST_F(Fit, PlansSmallerResidenciesWhereTheMeterRefutesOne) {
  const How here{.environment = {{"XDG_CACHE_HOME", place_.path("cache")}}, .timeout_seconds = 120};
  ASSERT_EQ(place_.run({"bench", "machine", "--seconds", "1", "--ranks", "2", "--scratch", place_.path("")}, here).status, 0);
  json config = json::parse(file("3", R"("train_micro_batch_size_per_gpu": 4,)"));
  config["zero_optimization"]["offload_optimizer"]["device"] = "none";
  config["zero_optimization"]["offload_param"] = {{"device", "none"}};
  config["activation_checkpointing"] = {{"number_checkpoints", 0}, {"cpu_checkpointing", false}};
  place_.write("here.json", config.dump());
  const auto fitted = [&](int64_t bytes) {
    const Outcome done = place_.run({"plan", place_.path("here.json"), "--world", "2", "--ranks-per-node", "2", "--fit", "--json", "--set",
                                     limit(static_cast<double>(bytes))},
                                    here);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out);
  };
  const auto needed = [](const json& fit) { return fit["best"]["needed_bytes"]["device"].get<int64_t>(); };
  constexpr int64_t kPlenty = 1000000000, kTaken = 2000000;
  const int64_t without = needed(fitted(kPlenty));
  // Libraries that take much: what was measured is read from here again.
  const std::string measured = place_.read("cache/zerostep/workspaces.jsonl");
  place_.write("cache/zerostep/workspaces.jsonl", std::regex_replace(measured, std::regex("[0-9]+(?=[,\\]])"), std::to_string(kTaken)));
  const json all = fitted(kPlenty);
  EXPECT_EQ(all["planned"], 1);
  EXPECT_GT(needed(all), without + kTaken / 2);
  const int64_t bytes = needed(all) - 1;
  EXPECT_LT(static_cast<double>(without), 0.95 * static_cast<double>(bytes));
  const json fit = fitted(bytes);
  EXPECT_GT(fit["planned"], 1);
  EXPECT_LE(needed(fit), bytes);
  const std::string live = "zero_optimization.stage3_max_live_parameters";
  EXPECT_LT(fit["best"]["settings"][live].get<int64_t>(), all["best"]["settings"][live].get<int64_t>());
  // The candidate that was refuted does not hide the one that fits, and is called by what it lacks.
  ASSERT_EQ(fit["placements"].size(), 1u);
  EXPECT_EQ(fit["placements"][0], fit["best"]);
}

TEST_F(Fit, NeedsTheFiguresOfAMachine) {
  const Outcome unknown =
      place_.run({"plan", place_.path("run.json"), "--fit"}, {.environment = {{"XDG_CACHE_HOME", place_.path("none")}}});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_SAYS(unknown.err, "zerostep bench machine");
}

TEST_F(Fit, SaysWhichFiguresAreMissing) {
  Machine machine = small_machine();
  machine.file_read = machine.file_write = machine.gather_across_hosts = machine.reduce_across_hosts = {};
  write_machine(place_.path("machine.json"), machine);
  const Outcome files =
      plan("run.json", {"--fit", "--set", "zero_optimization.stage=1", "--set", "zero_optimization.offload_optimizer.device=nvme"});
  EXPECT_EQ(files.status, 2) << files.err;
  EXPECT_SAYS(files.err, "leaves nothing to try: the machine's figures tell nothing of its disk");
  // Combinations that fit have no time either: none of them is called too large.
  const Outcome hosts = plan("run.json", {"--fit", "--ranks-per-node", "1"});
  EXPECT_EQ(hosts.status, 2) << hosts.err;
  EXPECT_SAYS(hosts.err, "_across_hosts, which this plan uses");
}

// A block that is left as a whole leaves every key in it, as a missing one does; an old form gives what it stands for.
TEST_F(Fit, BlocksThatAreLeftAsAWholeAreChosen) {
  const json whole = json::parse(file("3", ""));
  const auto fitted = [&](const std::string& at, const json& value) {
    json config = whole;
    config["zero_optimization"] = {{"stage", "auto"}, {"stage3_param_persistence_threshold", 0}};
    config[json::json_pointer(at)] = value;
    place_.write("block.json", config.dump());
    const Outcome done = plan("block.json", {"--fit", "--json", "--set", limit(10e6)});
    EXPECT_EQ(done.status, 0) << at << " " << value << done.err;
    const json fit = json::parse(done.out);
    EXPECT_EQ(place_.read("block.fit.json").find("\"auto\""), std::string::npos) << place_.read("block.fit.json");
    const Outcome again = plan("block.fit.json", {"--json", "--set", limit(10e6)});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_EQ(json::parse(again.out)["tokens_per_second"], fit["best"]["tokens_per_second"]) << at << " " << value;
    return fit;
  };
  const json missing = fitted("/zero_optimization/offload_param", nullptr);
  EXPECT_EQ(missing["kept"], json::array());
  for (const char* at : {"/zero_optimization/offload_param", "/zero_optimization/offload_optimizer", "/activation_checkpointing"})
    EXPECT_EQ(fitted(at, "auto"), missing) << at;
  const json defaults = fitted("/zero_optimization", nullptr);
  EXPECT_EQ(fitted("/zero_optimization", "auto"), defaults);
  EXPECT_EQ(fitted("/zero_optimization", json::object()), defaults);
  EXPECT_EQ(fitted("/zero_optimization", true)["kept"], json({"zero_optimization.stage 1"}));
  EXPECT_EQ(fitted("/zero_optimization/cpu_offload", true)["kept"], json({"zero_optimization.offload_optimizer.device \"cpu\""}));
}

TEST_F(Fit, SaysWhatItChoosesAndWhatItLeavesAlone) {
  const Outcome text = plan("run.json", {"--fit", "--set", "zero_optimization.stage3_max_live_parameters=50000", "--set",
                                         "zero_optimization.stage=3", "--set", "activation_checkpointing.number_checkpoints=0"});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_SAYS(text.out, "95.4 MiB of device memory (");
  EXPECT_SAYS(text.out, "; 5 % of device memory are left to libraries\n");
  EXPECT_SAYS(text.out,
              "  chooses what the file leaves out or calls \"auto\": zero_optimization.offload_optimizer.device, "
              "zero_optimization.offload_param.device, zero_optimization.offload_param.nvme_path, train_micro_batch_size_per_gpu, "
              "zero_optimization.stage3_max_reuse_distance, zero_optimization.stage3_prefetch_bucket_size, "
              "zero_optimization.offload_optimizer.ratio, zero_optimization.offload_param.max_in_cpu, "
              "zero_optimization.offload_param.buffer_count, zero_optimization.offload_optimizer.buffer_count\n");
  EXPECT_SAYS(
      text.out,
      "  kept as the file gives them (\"auto\" frees them): zero_optimization.stage 3, activation_checkpointing.number_checkpoints 0, "
      "zero_optimization.stage3_max_live_parameters 50000\n");
  const json written = json::parse(place_.read("run.fit.json"), nullptr, true, true)["zero_optimization"];
  EXPECT_EQ(written["stage3_max_live_parameters"], 50000);
  EXPECT_TRUE(written.contains("stage3_prefetch_bucket_size"));
  EXPECT_SAYS(place_.run({"plan", "--help"}).out, "those that it gives are kept");
}

// A model of 70 B on one consumer card: on the host it lacks memory there alone, which is nearer than a stage whose parameters stay on the
// card, and which lacks fewer bytes in all.
TEST_F(Fit, TheNearestIsShortOfTheFewestTiers) {
  place_.write("llama.json", R"({"train_batch_size": 1, "bf16": {"enabled": true}, "activation_checkpointing": {"number_checkpoints": -1},
    "zero_optimization": {"stage": "auto", "stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0},
    "model": {"family": "llama", "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
      "intermediate_size": 28672, "max_position_embeddings": 512, "vocab_size": 32000},
    "data": {"tokenizer": "byte", "sequence_length": 512}, "run": {"name": "fitted", "output_dir": ")" +
                                 place_.path("runs") + R"(", "steps": 2}})");
  const std::string machine = std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/machines/rtx4090.json";
  const Outcome fitted = place_.run({"plan", place_.path("llama.json"), "--machine", machine, "--fit", "--json"});
  EXPECT_EQ(fitted.status, 2) << fitted.err;
  EXPECT_SAYS(fitted.err, "Nearest is stage 3, parameters on the host, state on the host");
  EXPECT_SAYS(fitted.err, " of host memory (");
  EXPECT_EQ(count(fitted.err, "device memory"), 0u) << fitted.err;
  // Never more tiers, nor the device's memory before another's.
  std::vector<std::array<int64_t, 4>> distances;
  const json fit = json::parse(fitted.out);
  for (const json& candidate : fit["placements"]) {
    const auto lack = [&](const char* tier) { return candidate["lacking_bytes"][tier].get<int64_t>(); };
    const int64_t device = lack("device") > 0 ? 1 : 0, host = lack("host") > 0 ? 1 : 0, file = lack("file") > 0 ? 1 : 0;
    distances.push_back({device + host + file, device, host, lack("device") + lack("host") + lack("file")});
  }
  EXPECT_GT(distances.size(), 2u);
  EXPECT_TRUE(std::is_sorted(distances.begin(), distances.end()));
  EXPECT_GT(distances.front()[3], distances.back()[3]) << "by bytes alone the order would be another";
}

// Parameters that all stay gathered rest nowhere else, whatever the tier of the others is called, and may be those of stage 2.
TEST_F(Fit, ShowsEachPlanOnceByItsSimplestName) {
  const std::string persistent = "zero_optimization.stage3_param_persistence_threshold=1000000000";
  const Outcome fitted = plan("run.json", {"--fit", "--json", "--set", persistent, "--set", "optimizer.type=SGD"});
  ASSERT_EQ(fitted.status, 0) << fitted.err;
  const json fit = json::parse(fitted.out);
  std::set<std::string> plans;
  for (const json& candidate : fit["placements"]) {
    std::vector<std::string> more = settings(candidate);
    more.insert(more.end(), {"--actions", "--set", persistent, "--set", "optimizer.type=SGD"});
    std::string text = plan("run.json", more).out;
    // Every action, without the labels of groups, and what is needed.
    text = std::regex_replace(text.substr(text.find("\nActions of a step")), std::regex(" \\(persistent\\)"), "");
    EXPECT_TRUE(plans.insert(text + candidate["needed_bytes"].dump()).second) << candidate["settings"] << " is shown already";
    EXPECT_EQ(candidate["settings"].value("zero_optimization.offload_param.device", "none"), "none");
  }
  EXPECT_GT(plans.size(), 3u);
}

// What it compares may train on other batches than one another, which it says.
TEST_F(Fit, SaysThatTheGlobalBatchFollows) {
  json config = json::parse(file("\"auto\"", ""));
  config["train_micro_batch_size_per_gpu"] = "auto";
  for (const bool is_given : {false, true}) {
    config["train_batch_size"] = is_given ? json(8) : json("auto");
    place_.write("batch.json", config.dump());
    const Outcome done = plan("batch.json", {"--fit"});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(done.out.find("train_batch_size is not given and follows from the micro-batch") != std::string::npos, !is_given) << done.out;
  }
}

TEST_F(Fit, ItsHintIsNotWarnedOf) {
  json config = json::parse(file("\"auto\"", ""));
  config["zero_optimization"].erase("offload_optimizer");
  place_.write("bare.json", config.dump());
  const auto warning_after = [&](const std::vector<std::string>& given, const std::string& key) {
    std::vector<std::string> more{"--fit"};
    for (const std::string& set : given) more.insert(more.end(), {"--set", set});
    EXPECT_SAYS(plan("bare.json", more).out, "nothing was tried in files: no nvme_path is given (--set " + key + "=FOLDER)");
    more.insert(more.end(), {"--set", key + "=" + place_.path("disk")});
    const Outcome done = plan("bare.json", more);
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_FALSE(done.out.find("nothing was tried in files") != std::string::npos) << done.out;
    return done.err + plan("bare.fit.json", {}).err;
  };
  EXPECT_EQ(warning_after({}, "zero_optimization.offload_optimizer.nvme_path").find("nvme_path"), std::string::npos);
  EXPECT_EQ(
      warning_after({"zero_optimization.offload_optimizer.device=cpu"}, "zero_optimization.offload_param.nvme_path").find("nvme_path"),
      std::string::npos);
}

// The command is printed as it has to be typed, and the run that it starts is not in the way of an earlier one.
TEST_F(Fit, TheCommandThatItPrintsTrains) {
  json config = json::parse(file("\"auto\"", ""));
  config["data"]["train"] = place_.path("corpus.txt");
  place_.write("my run.json", config.dump());
  std::filesystem::create_symlink(program(), place_.path("zs"));
  const How how{.environment = {
                    {"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}, {"OMPI_MCA_rmaps_base_oversubscribe", "1"}}};
  const auto shell = [&](const std::string& command) {
    return place_.run_command({"sh", "-c", "cd '" + place_.path("") + "' && " + command}, how);
  };
  for (const std::string name : {"fitted", "fitted-fit", "fitted-fit-2"}) {
    const Outcome fitted = shell("./zs plan 'my run.json' --fit --world 2 --machine machine.json");
    ASSERT_EQ(fitted.status, 0) << fitted.err;
    const std::string wrote = "\nwrote my run.fit.json: mpirun -np 2 ./zs train 'my run.fit.json'\n";
    EXPECT_SAYS(fitted.out, (name == "fitted" ? "" : "fitted holds a run: the next one is named " + name) + wrote);
    const Outcome trained = shell(fitted.out.substr(fitted.out.rfind(": mpirun") + 2));
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_EQ(place_.column(name, "loss").size(), 2u);
  }
  const Outcome alone = shell("./zs plan 'my run.json' --fit --world 1 --machine machine.json --out one.json");
  EXPECT_SAYS(alone.out, "\nwrote one.json: ./zs train one.json\n");
}

TEST_F(Fit, TrainTakesTheFile) {
  place_.write("corpus.txt", std::string(40000, 'a'));
  place_.write("run.json", file("\"auto\"", ""));
  ASSERT_EQ(plan("run.json", {"--fit", "--set", "data.train=" + place_.path("corpus.txt"), "--set", limit(10e6)}).status, 0);
  const Outcome trained = place_.run({"train", place_.path("run.fit.json")}, {.ranks = 2});
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(place_.column("fitted", "loss").size(), 2u);
}

}  // namespace
}  // namespace zerostep::testing
