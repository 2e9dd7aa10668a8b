#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "runtime/timing/machine.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

// A machine's file of which every figure is another one.
inline nlohmann::ordered_json described() {
  return nlohmann::ordered_json::parse(R"({
    "name": "a card", "ranks_per_host": 2, "threads_per_rank": 3, "lanes_share_cores": false, "cores_per_rank": 1.5,
    "host_is_device": false, "multiprocessors": 30,
    "capacity": {"device_bytes": 24000000001, "host_bytes": 48000000002, "file_bytes": 96000000003},
    "gemm": [{"type": "fp32", "rows": 16, "width": 256, "tflops": 0.5}, {"type": "bf16", "rows": 64, "width": 512, "tflops": 1.25}],
    "elementwise": [{"type": "fp32", "gb_per_s": 10, "attention_tflops": 0.75, "attention_head_us": 2, "attention_backward_tflops": 0.5,
                     "attention_backward_head_us": 7}, {"type": "bf16", "gb_per_s": 11}],
    "operation_us": 4, "memory": {"device_gb_per_s": 12}, "noise_gelements_per_s": 14, "noise_16bit_gelements_per_s": 13,
    "update": {"device_gb_per_s": 15, "host_gb_per_s": 16},
    "links": {
      "host_to_device": {"latency_us": 1, "gb_per_s": 21}, "device_to_host": {"latency_us": 2, "gb_per_s": 22},
      "file_read": {"latency_us": 3, "gb_per_s": 23}, "file_write": {"latency_us": 4, "gb_per_s": 24},
      "gather_in_host": {"latency_us": 5, "gb_per_s": 25}, "reduce_in_host": {"latency_us": 6, "gb_per_s": 26},
      "gather_across_hosts": {"latency_us": 7, "gb_per_s": 27}, "reduce_across_hosts": {"latency_us": 8, "gb_per_s": 28}},
    "agreement_us": 9})");
}

class MachineFile : public ::testing::Test {
 protected:
  Machine read(const nlohmann::ordered_json& j) const { return read_text(j.dump()); }
  Machine read_text(const std::string& text) const {
    std::ofstream(file_) << text;
    return read_machine(file_);
  }
  std::string error_of(const nlohmann::ordered_json& j) const {
    try {
      read(j);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  }
  std::string text() const {
    std::ifstream in(file_);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  ScratchFolder scratch_;
  const std::string file_ = scratch_.path("machine.json");
};

}  // namespace zerostep::testing
