#include <algorithm>
#include <filesystem>
#include <sstream>

#include "runtime/timing/machine.h"
#include "tests/launch/support/fit_place.h"

// What `train`, `plan` and `config` choose where a file says "auto".
namespace zerostep::testing {
namespace {

using nlohmann::json;

class Automatic : public FitPlace {
 protected:
  Automatic() {
    place_.write("corpus.txt", std::string(40000, 'a'));
    here_.environment["XDG_CACHE_HOME"] = place_.path("cache");
    here_.timeout_seconds = 120;
  }
  json base() const {
    json config = json::parse(file("1", ""));
    config["zero_optimization"].erase("offload_optimizer");
    config["data"]["train"] = place_.path("corpus.txt");
    return config;
  }
  // As a machine with a core for each rank, whatever this one has.
  void measure(int ranks) const {
    ASSERT_EQ(
        place_.run({"bench", "machine", "--seconds", "1", "--ranks", std::to_string(ranks), "--scratch", place_.path("")}, here_).status,
        0);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(place_.path("cache"))) {
      if (entry.path().extension() != ".json") continue;
      Machine machine = read_machine(entry.path().string());
      machine.cores_per_rank = 1;
      write_machine(entry.path().string(), machine);
    }
  }
  Outcome train(const json& config, const std::vector<std::string>& more = {}, int ranks = 1) const {
    place_.write("auto.json", config.dump());
    std::vector<std::string> arguments{"train", place_.path("auto.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    How how = here_;
    how.ranks = ranks;
    return place_.run(arguments, how);
  }
  json resolved(const std::string& run = "fitted") const { return json::parse(place_.read("runs/" + run + "/config.json")); }
  How here_;
};

const std::vector<std::string> kEveryKey = {"zero_optimization.stage",
                                            "zero_optimization.offload_param.device",
                                            "zero_optimization.offload_optimizer.device",
                                            "activation_checkpointing.number_checkpoints",
                                            "activation_checkpointing.cpu_checkpointing",
                                            "train_micro_batch_size_per_gpu",
                                            "zero_optimization.stage3_max_live_parameters",
                                            "zero_optimization.stage3_max_reuse_distance"};

json::json_pointer at(const std::string& path) {
  std::string out = "/" + path;
  std::replace(out.begin(), out.end(), '.', '/');
  return json::json_pointer(out);
}

// Of two ranks, on a machine that was measured. What a file leaves out `plan --fit` chooses and `train` does not, so these are given.
TEST_F(Automatic, TrainTakesWhatFitWouldWrite) {
  measure(2);
  json config = base();
  for (const std::string& key : kEveryKey) config[at(key)] = "auto";
  config[at("zero_optimization.stage3_prefetch_bucket_size")] = 50000000;
  config[at("zero_optimization.offload_optimizer.ratio")] = 1;
  const auto compare = [&](double bytes) {
    place_.write("auto.json", config.dump());
    const Outcome fitted = place_.run({"plan", place_.path("auto.json"), "--fit", "--world", "2", "--ranks-per-node", "2", "--set",
                                       limit(bytes), "--out", place_.path("written.json")},
                                      here_);
    ASSERT_EQ(fitted.status, 0) << fitted.err;
    const json written = json::parse(place_.read("written.json"), nullptr, true, true);
    const Outcome trained = train(config, {"--set", limit(bytes), "--overwrite"}, 2);
    ASSERT_EQ(trained.status, 0) << trained.err;
    for (const std::string& key : kEveryKey)
      if (written.contains(at(key)) && written[at(key)] != "auto" && resolved().contains(at(key))) {
        EXPECT_EQ(resolved()[at(key)], written[at(key)]) << key << " at " << bytes;
      }
    EXPECT_EQ(resolved()[at("zero_optimization.stage")], written[at("zero_optimization.stage")]);
    EXPECT_SAYS(trained.out, "\nauto           zero_optimization.stage = ");
    EXPECT_SAYS(trained.out, " combinations for 2 ranks of ");
  };
  compare(1e9);
  compare(4e6);
}

TEST_F(Automatic, ResumeKeepsTheValues) {
  json config = base();
  config["train_micro_batch_size_per_gpu"] = "auto";
  config["run"]["checkpoint_interval"] = 1;
  const int64_t first = [&] {
    EXPECT_EQ(train(config, {"--set", limit(12e6)}).status, 0);
    return resolved()["train_micro_batch_size_per_gpu"].get<int64_t>();
  }();
  // With more memory another run has larger micro-batches, by memory alone.
  const Outcome other = train(config, {"--set", limit(1e9), "--set", "run.name=other"});
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_SAYS(other.out, "by memory alone: the time of a step is not known");
  ASSERT_EQ(resolved("other")["train_micro_batch_size_per_gpu"], 16);
  ASSERT_LT(first, 16);
  const Outcome resumed = train(config, {"--set", limit(1e9), "--set", "run.steps=3", "--resume"});
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(resolved()["train_micro_batch_size_per_gpu"], first);
  EXPECT_SAYS(resumed.out, "as in the checkpoint ");
  EXPECT_EQ(place_.column("fitted", "loss").size(), 3u);
  // What does not go with them any more is chosen anew.
  const Outcome others =
      train(config, {"--set", limit(1e9), "--set", "run.steps=4", "--set", "gradient_accumulation_steps=16", "--resume"});
  ASSERT_EQ(others.status, 0) << others.err;
  EXPECT_EQ(resolved()["train_micro_batch_size_per_gpu"], 1);
}

// On a machine with less memory: what the run had does not fit there.
TEST_F(Automatic, ResumeChoosesAnewWhatDoesNotFit) {
  json config = base();
  config["train_micro_batch_size_per_gpu"] = "auto";
  config["run"]["checkpoint_interval"] = 1;
  ASSERT_EQ(train(config, {"--set", limit(1e9)}).status, 0);
  ASSERT_EQ(resolved()["train_micro_batch_size_per_gpu"], 16);
  const Outcome resumed = train(config, {"--set", limit(12e6), "--set", "run.steps=3", "--resume"});
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_LT(resolved()["train_micro_batch_size_per_gpu"], 16);
  EXPECT_SAYS(resumed.out, "not as in the checkpoint, which does not fit here (a rank needs ");
}

// Of values that have no effect beside the others a file would be warned; whoever says "auto" has not given them.
TEST_F(Automatic, NothingIsWarnedOfThatNobodyGave) {
  json config = base();
  config["zero_optimization"] = {{"stage", "auto"}, {"offload_param", "auto"}, {"offload_optimizer", "auto"}};
  config["run"]["checkpoint_interval"] = 1;
  const Outcome first = train(config), resumed = train(config, {"--set", "run.steps=3", "--resume"});
  for (const Outcome& done : {first, resumed}) {
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ((done.out + done.err).find(" no effect "), std::string::npos) << done.out << done.err;
    for (const char* block : {"offload_param", "offload_optimizer"})
      EXPECT_SAYS(done.out, std::string("auto           zero_optimization.") + block + ".device = \"none\": ");
  }
}

// A disk that has moved: the folder that is given now counts, and not that of before.
TEST_F(Automatic, ResumeTakesTheFolderThatIsGiven) {
  json config = base();
  const auto put = [&](const char* device, const char* folder) {
    config["zero_optimization"] = {{"stage", 3},
                                   {"stage3_param_persistence_threshold", 0},
                                   {"offload_optimizer", {{"device", device}, {"nvme_path", place_.path(folder)}}}};
  };
  config["run"]["checkpoint_interval"] = 1;
  const json::json_pointer block = at("zero_optimization.offload_optimizer");
  put("nvme", "before");
  ASSERT_EQ(train(config).status, 0);
  put("auto", "now");
  const Outcome resumed = train(config, {"--set", "run.steps=3", "--resume"});
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(resolved()[block]["device"], "nvme");
  EXPECT_SAYS(resolved()[block]["nvme_path"].dump(), place_.path("now"));
  EXPECT_EQ(resolved()[block]["nvme_path"].dump().find(place_.path("before")), std::string::npos);
}

TEST_F(Automatic, TheBatchStaysWhatItIs) {
  json config = base();
  config["train_micro_batch_size_per_gpu"] = "auto";
  ASSERT_EQ(train(config, {"--set", limit(12e6)}, 2).status, 0);
  EXPECT_EQ(resolved()["train_batch_size"], 16);
  const auto micro = resolved()["train_micro_batch_size_per_gpu"].get<int64_t>();
  EXPECT_EQ(8 % micro, 0) << micro;
  // As Hugging Face's Trainer fills it in, 8 samples a rank; in how many micro-batches memory decides.
  config["train_batch_size"] = config["gradient_accumulation_steps"] = "auto";
  for (const double bytes : {12e6, 1e9}) {
    ASSERT_EQ(train(config, {"--set", limit(bytes), "--overwrite"}).status, 0);
    const json out = resolved();
    EXPECT_EQ(out["train_micro_batch_size_per_gpu"].get<int64_t>() * out["gradient_accumulation_steps"].get<int64_t>(), 8);
    if (bytes == 1e9) {
      EXPECT_EQ(out["train_micro_batch_size_per_gpu"], 8);
    }
  }
  // Two of three say what the third is.
  config["train_batch_size"] = 16;
  config["gradient_accumulation_steps"] = 4;
  const Outcome derived = train(config, {"--overwrite"});
  ASSERT_EQ(derived.status, 0) << derived.err;
  EXPECT_EQ(derived.out.find("auto  "), std::string::npos) << derived.out;
  EXPECT_SAYS(derived.out, "4 a micro-batch x 4 accumulation steps");
}

// Keys that Hugging Face's integration fills in, and those that are left out, are none of the search's.
TEST_F(Automatic, OtherKeysHaveTheirOwnMeaning) {
  json config = base();
  config["zero_optimization"] = {{"stage", 3},
                                 {"reduce_bucket_size", "auto"},
                                 {"stage3_prefetch_bucket_size", "auto"},
                                 {"stage3_param_persistence_threshold", "auto"}};
  config["optimizer"]["params"] = {{"lr", "auto"}};
  const Outcome trained = train(config);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(trained.out.find("auto  "), std::string::npos) << trained.out;
  const json zero = resolved()["zero_optimization"];
  EXPECT_EQ(zero["stage3_prefetch_bucket_size"], 3686);  // int(0.9 * 64 * 64)
  EXPECT_EQ(zero["stage3_param_persistence_threshold"], 640);
  EXPECT_EQ(zero["stage3_max_live_parameters"], 1000000000);
}

TEST_F(Automatic, PlanAndConfigShowTheSame) {
  json config = base();
  config["zero_optimization"]["stage"] = "auto";
  config["zero_optimization"]["offload_param"] = {{"device", "cpu"}};  // only stage 3 can have it
  const Outcome trained = train(config);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(resolved()["zero_optimization"]["stage"], 3);
  const Outcome planned = place_.run({"plan", place_.path("auto.json")}, here_),
                shown = place_.run({"config", place_.path("auto.json")}, here_);
  EXPECT_SAYS(planned.out, "stage 3");
  EXPECT_SAYS(shown.out, "zero_optimization.stage = 3   (auto)");
  for (const Outcome& done : {planned, shown}) EXPECT_SAYS(done.err, "auto           zero_optimization.stage = 3: ");
}

// The share that is left to libraries is a guess: what they take here is measured before a file is refused for it.
TEST_F(Automatic, WhatFitsButForTheShareOfLibrariesIsMeasured) {
  json config = base();
  config["zero_optimization"]["stage"] = 0;
  config["train_micro_batch_size_per_gpu"] = 1;
  place_.write("auto.json", config.dump());
  const Outcome planned = place_.run({"plan", place_.path("auto.json"), "--json"}, here_);
  ASSERT_EQ(planned.status, 0) << planned.err;
  const auto needed = static_cast<double>(json::parse(planned.out)["device_peak_bytes"].get<int64_t>());
  config["zero_optimization"]["stage"] = "auto";
  const Outcome trained = train(config, {"--set", limit(1.01 * needed)});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_SAYS(trained.out, "auto           the simplest of ");
}

TEST_F(Automatic, ADeviceThatIsNotThereIsSaidBeforeASearch) {
  json config = base();
  config["zero_optimization"]["stage"] = "auto";
  How blind = here_;
  blind.environment["CUDA_VISIBLE_DEVICES"] = "";
  place_.write("auto.json", config.dump());
  const Outcome trained = place_.run({"train", place_.path("auto.json"), "--device", "cuda", "--set", limit(1e5)}, blind);
  EXPECT_EQ(trained.status, 2);
  EXPECT_SAYS(trained.err, "run.device is \"cuda\": ");
  EXPECT_EQ(trained.err.find(" fits on "), std::string::npos) << trained.err;
}

TEST_F(Automatic, SaysWhatIsMissingWhereNothingFits) {
  json config = base();
  config["zero_optimization"]["stage"] = "auto";
  const Outcome trained = train(config, {"--set", limit(1e5)});
  EXPECT_EQ(trained.status, 2);
  EXPECT_SAYS(trained.err, " bytes of device memory (");
  EXPECT_SAYS(trained.err, "\"auto\" for keys that are left out, which have their defaults, or `" + program() + " plan --fit`");
  EXPECT_SAYS(trained.err, " beside the 5 % of device memory that are left to libraries");
  EXPECT_FALSE(place_.exists("runs/fitted/config.json"));
  // Nor is anything put where no folder can be made.
  config["zero_optimization"]["offload_optimizer"] = {{"device", "auto"}, {"nvme_path", place_.path("corpus.txt/disk")}};
  const Outcome filed = train(config, {"--set", limit(1e5)});
  EXPECT_EQ(filed.status, 2);
  EXPECT_SAYS(filed.err, "; files (zero_optimization.offload_optimizer.nvme_path: ");
}

}  // namespace
}  // namespace zerostep::testing
