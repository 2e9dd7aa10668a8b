#include "launch/measured_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "base/format.h"

namespace zerostep {
namespace {

std::string gigabytes(double bytes_per_second) { return fmt::format("{:.3g} GB/s", 1e-9 * bytes_per_second); }
std::string microseconds(double seconds) { return fmt::format("{:.3g} us", 1e6 * seconds); }
std::string text_of(const Link& link) {
  return link.is_known() ? fmt::format("{} + {}", microseconds(link.latency_seconds), gigabytes(link.bytes_per_second)) : "not measured";
}

// `where`: " on cuda:0".
std::string products_text(const Machine& m, const std::string& where) {
  std::set<int64_t> widths, rows;
  std::vector<DType> types;
  for (const GemmRate& rate : m.gemm) {
    widths.insert(rate.width);
    rows.insert(rate.rows);
    if (std::find(types.begin(), types.end(), rate.type) == types.end()) types.push_back(rate.type);
  }
  std::string text = fmt::format("{:<20}{:>6}", "GFLOP/s of products", "rows");
  for (const int64_t width : widths) text += fmt::format("{:>8}", width);
  text += " wide" + where + "\n";
  for (const DType type : types)
    for (const int64_t row : rows) {
      text += fmt::format("{:<20}{:>6}", row == *rows.begin() ? fmt::format("  {}", name_of(type)) : "", row);
      for (const int64_t width : widths) {
        const auto is_it = [&](const GemmRate& rate) { return rate.type == type && rate.rows == row && rate.width == width; };
        const auto found = std::find_if(m.gemm.begin(), m.gemm.end(), is_it);
        text += fmt::format("{:>8}", found == m.gemm.end() ? "-" : fmt::format("{:.3g}", 1e-9 * found->flops_per_second));
      }
      text += "\n";
    }
  return text;
}

}  // namespace

std::string text_of(const MeasuredMachine& measured, const MeasuredOn& on) {
  const Machine& m = measured.machine;
  const bool on_gpu = !m.host_is_device;
  // "cuda:0" of "cuda:0 (NVIDIA H200)".
  const std::string device = on.devices.substr(0, on.devices.find(" ("));
  std::string text = fmt::format("{}, {} a host, {} each\n", on_gpu ? on.devices : m.name, counted(m.ranks_per_host, "rank"),
                                 counted(m.threads_per_rank, "thread"));
  text += products_text(m, on_gpu ? " on " + device : "");
  // `spread`: the name that it has in MeasuredMachine::spreads.
  const auto add_of = [&](const std::string& where, const std::string& name, const std::string& figure, const std::string& spread) {
    const auto found = measured.spreads.find(spread);
    const std::string within = found == measured.spreads.end() ? ""
                               : std::isinf(found->second)     ? "fewer than three repetitions"
                                                               : fmt::format("middle half within {:.0f} %", 100 * found->second);
    text += fmt::format("{:<27}{}{:<25} {}\n", name, on_gpu ? fmt::format("{:<20}", where) : "", figure, within);
  };
  const auto add = [&](const std::string& name, const std::string& figure, const std::string& spread) {
    add_of(device, name, figure, spread);
  };
  for (const ElementwiseRate& rate : m.elementwise) {
    const std::string operations = figure_of(figures::kOperations, rate.type), attention = figure_of(figures::kAttention, rate.type);
    add(operations, gigabytes(rate.bytes_per_second) + " written", operations);
    const auto attention_text = [](const AttentionRate& of) {
      return fmt::format("{} + {:.3g} GFLOP/s", microseconds(of.head_seconds), 1e-9 * of.flops_per_second);
    };
    add(attention, attention_text(rate.attention), attention);
    add("  its backward", attention_text(rate.attention_backward), "");
  }
  add("an operation of LibTorch", microseconds(m.operation_seconds), figures::kOperation);
  add("memory", gigabytes(m.memory_bytes_per_second), figures::kMemory);
  add("noise", fmt::format("{:.4g}, in bf16 {:.4g} M/s", 1e-6 * m.noise_elements_per_second, 1e-6 * m.noise_16bit_elements_per_second),
      figures::kNoise);
  add("AdamW", gigabytes(m.update_bytes_per_second), figures::kUpdates);
  if (on_gpu) {
    add_of("host", "AdamW", gigabytes(m.host_update_bytes_per_second), figures::kHostUpdates);
    add_of("host -> " + device, "copies", text_of(m.host_to_device), figures::kCopiesToDevice);
    add_of(device + " -> host", "copies", text_of(m.device_to_host), figures::kCopiesToHost);
  }
  add_of("host", "file reads", text_of(m.file_read), figures::kFileReads);
  add_of("host", "file writes", text_of(m.file_write), figures::kFileWrites);
  if (m.gather_in_host.is_known()) {
    add("gathers in a host", text_of(m.gather_in_host), figures::kGathersInHost);
    add("reductions in a host", text_of(m.reduce_in_host), figures::kReductionsInHost);
    add_of("host", "an agreement", microseconds(m.agreement_seconds), figures::kAgreements);
  }
  if (m.gather_across_hosts.is_known()) {
    add("gathers between hosts", text_of(m.gather_across_hosts), figures::kGathersBetweenHosts);
    add("reductions between hosts", text_of(m.reduce_across_hosts), figures::kReductionsBetweenHosts);
  }
  if (on_gpu) {
    text += fmt::format("{:<27}{}\n", "copies go", measured.copies);
    if (m.ranks_per_host > 1) text += fmt::format("{:<27}{}\n", "gathers, reductions go by", on.collectives);
  }
  text += fmt::format("{:<27}{}\n", "files", measured.disk);
  text += fmt::format("{:<27}{}memory {}, disk {}\n", "free, a rank",
                      on_gpu ? fmt::format("{} {}, of the host's ", device, human_bytes(m.device_bytes)) : "", human_bytes(m.host_bytes),
                      human_bytes(m.file_bytes));
  return text;
}

}  // namespace zerostep
