#pragma once
#include "runtime/timing/machine.h"

namespace zerostep::testing {

// A machine with which nothing takes any time; tests give the figure that they look at.
inline Machine instant_machine() {
  constexpr double kInstant = 1e300;
  Machine m;
  m.name = "instant";
  m.ranks_per_host = 1 << 20;
  m.cores_per_rank = 2;
  for (const DType type : {DType::F32, DType::BF16}) {
    m.gemm.push_back({type, 1, 1, kInstant});
    m.elementwise.push_back({type, kInstant});
  }
  m.memory_bytes_per_second = m.noise_elements_per_second = kInstant;
  m.update_bytes_per_second = m.host_update_bytes_per_second = kInstant;
  for (Link* link : {&m.host_to_device, &m.device_to_host, &m.file_read, &m.file_write, &m.gather_in_host, &m.reduce_in_host,
                     &m.gather_across_hosts, &m.reduce_across_hosts})
    *link = {0, kInstant};
  return m;
}

// A machine of plain figures.
inline Machine small_machine() {
  Machine m = instant_machine();
  m.name = "small";
  m.ranks_per_host = 2;
  m.cores_per_rank = 1;
  m.host_bytes = int64_t{8} << 30;
  m.file_bytes = int64_t{64} << 30;
  m.gemm = {{DType::F32, 64, 512, 50e9}, {DType::F32, 1024, 512, 80e9}, {DType::BF16, 64, 512, 40e9}, {DType::BF16, 1024, 512, 120e9}};
  m.elementwise = {{DType::F32, 4e9}, {DType::BF16, 2e9}};
  m.operation_seconds = 4e-6;
  m.memory_bytes_per_second = 10e9;
  m.noise_elements_per_second = 300e6;
  m.update_bytes_per_second = m.host_update_bytes_per_second = 8e9;
  m.host_to_device = m.device_to_host = {10e-6, 10e9};
  m.file_read = {100e-6, 1e9}, m.file_write = {100e-6, 0.5e9};
  m.gather_in_host = {20e-6, 4e9}, m.reduce_in_host = {20e-6, 2e9};
  m.gather_across_hosts = {100e-6, 1e9}, m.reduce_across_hosts = {100e-6, 0.5e9};
  m.agreement_seconds = 10e-6;
  return m;
}

}  // namespace zerostep::testing
