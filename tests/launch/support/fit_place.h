#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

// A small model and an invented machine, for `plan --fit` and "auto".
class FitPlace : public ::testing::Test {
 protected:
  FitPlace() {
    // Limits of these tests are of a few megabytes, in which cuBLAS has no room.
    ::setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0", 1);
    // An accelerator whose links are slow beside it, so that what rests elsewhere costs time.
    place_.write("machine.json",
                 R"({"name": "made up", "ranks_per_host": 2, "threads_per_rank": 1, "lanes_share_cores": false, "cores_per_rank": 1,
      "host_is_device": false, "capacity": {"device_bytes": 100000000, "host_bytes": 100000000, "file_bytes": 1000000000},
      "gemm": [{"type": "fp32", "rows": 64, "width": 256, "tflops": 0.1}], "elementwise": [{"type": "fp32", "gb_per_s": 10}],
      "operation_us": 1, "memory": {"device_gb_per_s": 50}, "noise_gelements_per_s": 1,
      "update": {"device_gb_per_s": 50, "host_gb_per_s": 10},
      "links": {"host_to_device": {"latency_us": 5, "gb_per_s": 1}, "device_to_host": {"latency_us": 5, "gb_per_s": 1},
                "file_read": {"latency_us": 50, "gb_per_s": 0.2}, "file_write": {"latency_us": 50, "gb_per_s": 0.1},
                "gather_in_host": {"latency_us": 5, "gb_per_s": 0.5}, "reduce_in_host": {"latency_us": 5, "gb_per_s": 0.5}},
      "agreement_us": 5})");
    place_.write("run.json", file("\"auto\"", ""));
  }
  std::string file(const std::string& stage, const std::string& more) const {
    return R"({"train_batch_size": 16, "zero_optimization": {"stage": )" + stage +
           R"(, "stage3_param_persistence_threshold": 0,
      "offload_optimizer": {"device": "auto", "nvme_path": ")" +
           place_.path("disk") + R"("}}, )" + more + R"( "optimizer": {"type": "AdamW"},
      "model": {"family": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 257},
      "data": {"tokenizer": "byte", "sequence_length": 64}, "run": {"name": "fitted", "output_dir": ")" +
           place_.path("runs") + R"(", "steps": 2}})";
  }
  static std::vector<std::string> settings(const nlohmann::json& candidate) {
    std::vector<std::string> out;
    for (const auto& [path, value] : candidate["settings"].items()) {
      out.emplace_back("--set");
      out.push_back(path + "=" + value.dump());
    }
    return out;
  }
  Outcome plan(const std::string& name, std::vector<std::string> more) const {
    std::vector<std::string> arguments{"plan", place_.path(name), "--machine", place_.path("machine.json"), "--world", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments);
  }
  // Of a GPU's memory by a plan, what LibTorch's pieces leave unfilled included.
  static int64_t needed_of(const nlohmann::json& plan) {
    return plan["device_peak_bytes"].get<int64_t>() + plan["piece_bytes"].get<int64_t>();
  }
  static std::string limit(double bytes) { return "run.device_memory=" + std::to_string(static_cast<int64_t>(bytes)); }
  Workplace place_;
};

}  // namespace zerostep::testing
