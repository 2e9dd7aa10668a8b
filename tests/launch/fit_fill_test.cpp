#include <algorithm>
#include <cmath>

#include "tests/launch/support/fit_place.h"

// What `plan --fit` fills memory with, against plans of splits that are made by hand.
namespace zerostep::testing {
namespace {

using nlohmann::json;
constexpr const char *kRatioKey = "zero_optimization.offload_optimizer.ratio", *kInMemoryKey = "zero_optimization.offload_param.max_in_cpu",
                     *kParameterBuffersKey = "zero_optimization.offload_param.buffer_count",
                     *kStateBuffersKey = "zero_optimization.offload_optimizer.buffer_count";

class FitFill : public FitPlace {
 protected:
  // Everything in files, a dozen layers, and nothing left to choose but how tiers are filled.
  FitFill() {
    json config = json::parse(file("3", R"("train_micro_batch_size_per_gpu": 2,)"));
    config["model"]["n_layer"] = 12;
    config["activation_checkpointing"] = {{"number_checkpoints", 0}, {"cpu_checkpointing", false}};
    json& zero = config["zero_optimization"];
    zero["stage3_max_live_parameters"] = zero["stage3_max_reuse_distance"] = zero["stage3_prefetch_bucket_size"] = 0;
    for (const char* block : {"offload_param", "offload_optimizer"}) zero[block] = {{"device", "nvme"}, {"nvme_path", place_.path("disk")}};
    place_.write("files.json", config.dump());
  }
  // A machine with so much memory of the host.
  void write_host(double bytes) const {
    json machine = json::parse(place_.read("machine.json"));
    machine["capacity"]["host_bytes"] = static_cast<int64_t>(bytes);
    place_.write("machine.json", machine.dump());
  }
  json planned(const std::vector<std::string>& set) const {
    std::vector<std::string> more{"--json"};
    for (const std::string& s : set) more.insert(more.end(), {"--set", s});
    const Outcome done = plan("files.json", more);
    return done.status == 0 ? json::parse(done.out) : json();
  }
  static std::string split(const char* key, double value) { return key + ("=" + json(value).dump()); }
  // Memory in which half of the state, and half of the parameters, have room beside what cannot rest in files.
  struct Room {
    double device, host;
  };
  Room half_room() const {
    write_host(1e9);
    const json half = planned({limit(1e9), split(kRatioKey, 0.5), split(kInMemoryKey, kElements / 2)});
    return {static_cast<double>(needed_of(half)) / 0.95, half["host_peak_bytes"].get<double>() / 0.95};
  }
  static constexpr double kElements = 320000;  // parameters of a rank, about
  json best(double device_bytes) const {
    const Outcome fitted = plan("files.json", {"--fit", "--json", "--set", limit(device_bytes)});
    EXPECT_EQ(fitted.status, 0) << fitted.err;
    return json::parse(fitted.out)["best"];
  }
};

// 5 % of either memory are left alone, so that splits by hand have as much less.
TEST_F(FitFill, NoSplitOfAFineGridIsFaster) {
  const Room room = half_room();
  write_host(room.host);
  const json found = best(room.device);
  EXPECT_LE(found["needed_bytes"]["device"].get<double>(), 0.95 * room.device);
  EXPECT_LE(found["needed_bytes"]["host"].get<double>(), 0.95 * room.host);
  double most = 0, unfilled = 0;
  constexpr int kSteps = 12;
  for (int ratio = 1; ratio <= kSteps; ++ratio)
    for (int share = 0; share <= kSteps; share += 2) {
      const json one = planned({limit(0.95 * room.device), split(kRatioKey, static_cast<double>(ratio) / kSteps),
                                split(kInMemoryKey, std::floor(kElements * share / kSteps))});
      if (one.is_null() || one["host_peak_bytes"].get<double>() > 0.95 * room.host) continue;
      most = std::max(most, one["tokens_per_second"].get<double>());
      if (ratio == kSteps && share == 0) unfilled = one["tokens_per_second"];
    }
  EXPECT_GT(unfilled, 0);
  EXPECT_GT(most, 1.02 * unfilled) << "splits make no difference here";
  EXPECT_GE(found["tokens_per_second"].get<double>(), 0.99 * most);
}

TEST_F(FitFill, ItsFileIsWhatItSaysOfIt) {
  const Room room = half_room();
  write_host(room.host);
  const json found = best(room.device);
  EXPECT_TRUE(found["settings"].contains(kRatioKey) || found["settings"].contains(kInMemoryKey)) << found;
  const Outcome again = plan("files.fit.json", {"--json", "--set", limit(room.device)});
  ASSERT_EQ(again.status, 0) << again.err;
  const json written = json::parse(again.out);
  EXPECT_EQ(written["tokens_per_second"], found["tokens_per_second"]);
  EXPECT_EQ(needed_of(written), found["needed_bytes"]["device"].get<int64_t>());
  EXPECT_EQ(written["host_peak_bytes"], found["needed_bytes"]["host"]);
}

TEST_F(FitFill, KeepsTheSplitsThatTheFileGives) {
  write_host(10e6);
  const std::vector<std::string> given{kRatioKey + std::string("=0.5"), kInMemoryKey + std::string("=1000"),
                                       kParameterBuffersKey + std::string("=3"), kStateBuffersKey + std::string("=6")};
  std::vector<std::string> more{"--fit", "--json", "--set", limit(200e6)};
  for (const std::string& set : given) more.insert(more.end(), {"--set", set});
  const Outcome fitted = plan("files.json", more);
  ASSERT_EQ(fitted.status, 0) << fitted.err;
  const json fit = json::parse(fitted.out);
  for (const char* key : {kRatioKey, kInMemoryKey, kParameterBuffersKey, kStateBuffersKey}) {
    EXPECT_FALSE(fit["best"]["settings"].contains(key)) << key;
    EXPECT_TRUE(std::any_of(fit["kept"].begin(), fit["kept"].end(), [&](const json& kept) {
      return kept.get<std::string>().starts_with(key);
    })) << key;
  }
}

// State on the host that has no room for all of it fits where the device has room for the rest.
TEST_F(FitFill, StateIsSplitWhereTheHostIsTooSmall) {
  const auto needed = [&](const char* ratio) {
    return planned({limit(200e6), "zero_optimization.offload_param.device=none", "zero_optimization.offload_optimizer.device=cpu",
                    kRatioKey + std::string("=") + ratio})["host_peak_bytes"]
        .get<double>();
  };
  const double all = needed("1"), half = needed("0.5");
  ASSERT_LT(half, 0.8 * all);
  write_host(0.8 * all / 0.95);
  const Outcome fitted =
      plan("files.json", {"--fit", "--json", "--set", limit(200e6), "--set", "zero_optimization.offload_param.device=none", "--set",
                          "zero_optimization.offload_optimizer.device=cpu"});
  ASSERT_EQ(fitted.status, 0) << fitted.err;
  const json best = json::parse(fitted.out)["best"];
  EXPECT_LT(best["settings"][kRatioKey].get<double>(), 0.9);
  EXPECT_LE(best["needed_bytes"]["host"].get<double>(), 0.8 * all);
}

// A model of 70 B on one consumer card, with everything in files: 15e9 elements in memory are what someone tried by hand.
TEST_F(FitFill, IsNotSlowerThanASplitByHand) {
  place_.write("files.json", R"({"train_batch_size": 1, "train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true},
    "activation_checkpointing": {"number_checkpoints": -1, "cpu_checkpointing": false},
    "zero_optimization": {"stage": 3, "stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0,
      "stage3_param_persistence_threshold": 100000,
      "offload_param": {"device": "nvme", "nvme_path": "disk"}, "offload_optimizer": {"device": "nvme", "nvme_path": "disk"}},
    "optimizer": {"type": "AdamW"},
    "model": {"family": "llama", "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
      "intermediate_size": 28672, "max_position_embeddings": 512, "vocab_size": 32000},
    "data": {"tokenizer": "byte", "sequence_length": 512}, "run": {"name": "fitted", "output_dir": ")" +
                                 place_.path("runs") + R"(", "steps": 2}})");
  const std::string machine = std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/machines/rtx4090.json";
  const auto told = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"plan", place_.path("files.json"), "--machine", machine, "--world", "1", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome done = place_.run(arguments);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out);
  };
  const json none = told({}), hand = told({"--set", kInMemoryKey + std::string("=15000000000")}), found = told({"--fit"})["best"];
  EXPECT_LT(hand["step_seconds"].get<double>(), none["step_seconds"].get<double>());
  EXPECT_LT(found["step_seconds"].get<double>(), hand["step_seconds"].get<double>());
  EXPECT_LE(found["needed_bytes"]["host"].get<double>(), 0.95 * 110e9);
  // The host is filled up to one more group of parameters, of a layer's 856 M elements in bf16.
  EXPECT_GT(found["needed_bytes"]["host"].get<double>(), 0.95 * 110e9 - 2 * 860e6 * 2);
}

}  // namespace
}  // namespace zerostep::testing
