#include "launch/rank_devices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/blas_workspace.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "base/host_name.h"

namespace zerostep {
namespace {

constexpr std::string_view kGpu = "cuda:";
// cuBLAS takes other ways to a product with other workspaces and types.
constexpr const char* kVariablesOfProducts[] = {kBlasWorkspaceVariable, "CUBLASLT_WORKSPACE_SIZE", "NVIDIA_TF32_OVERRIDE",
                                                "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"};

std::string text_of_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "not set" : fmt::format("'{}'", value);
}

std::string ranks_text(const std::vector<int>& ranks) { return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", ranges_text(ranks)); }

std::string devices_of_host(const std::vector<RankDevice>& ranks) {
  std::set<std::string> names, identities, models;
  std::map<std::string, std::vector<int>> gpus_of_model;
  for (const RankDevice& rank : ranks) {
    identities.insert(rank.identity);
    models.insert(rank.model);
    if (names.insert(rank.name).second && rank.name.starts_with(kGpu))
      gpus_of_model[rank.model].push_back(std::atoi(rank.name.c_str() + kGpu.size()));
  }
  if (gpus_of_model.empty()) return fmt::format("{}", fmt::join(names, ", "));
  if (identities.size() > names.size()) return fmt::format("{} GPUs ({})", identities.size(), fmt::join(models, ", "));
  std::vector<std::string> texts;
  for (auto& [model, gpus] : gpus_of_model) {
    std::sort(gpus.begin(), gpus.end());
    texts.push_back(fmt::format("{}{} ({})", kGpu, ranges_text(gpus), model));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

// Ranks by what each of them says, those with the lowest rank first.
std::vector<std::pair<std::string, std::vector<int>>> ranks_by_text(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, std::vector<int>>> out;
  for (int rank = 0; rank < static_cast<int>(texts.size()); ++rank) {
    const std::string& text = texts[static_cast<size_t>(rank)];
    auto at = std::find_if(out.begin(), out.end(), [&](const auto& entry) { return entry.first == text; });
    if (at == out.end()) at = out.insert(out.end(), {text, {}});
    at->second.push_back(rank);
  }
  return out;
}

void fail_on_mixed_devices(const Config& config, const std::vector<std::string>& devices, const std::vector<std::string>& hosts,
                           const std::vector<std::string>& visible) {
  std::vector<int> on_gpu, on_processor;
  for (int rank = 0; rank < static_cast<int>(devices.size()); ++rank)
    (devices[static_cast<size_t>(rank)] == "cuda" ? on_gpu : on_processor).push_back(rank);
  if (on_gpu.empty() || on_processor.empty()) return;
  const auto first = static_cast<size_t>(on_processor.front());
  fail_input(
      "{}: run.device is \"auto\": {} would compute on \"cuda\", and {} on \"cpu\", seeing no GPU (rank {} is on host {}, where "
      "CUDA_VISIBLE_DEVICES is {}). All ranks of a run compute on one kind of device: --device cpu takes the processor on each; for GPUs "
      "let CUDA_VISIBLE_DEVICES show every rank one (--device cuda says of a rank without one why none answers)",
      config.source("run.device"), ranks_text(on_gpu), ranks_text(on_processor), first, hosts[first], visible[first]);
}

}  // namespace

std::string devices_text(const std::vector<RankDevice>& ranks) {
  std::vector<std::pair<std::string, std::vector<RankDevice>>> hosts;
  for (const RankDevice& rank : ranks) {
    auto at = std::find_if(hosts.begin(), hosts.end(), [&](const auto& host) { return host.first == rank.host; });
    if (at == hosts.end()) at = hosts.insert(hosts.end(), {rank.host, {}});
    at->second.push_back(rank);
  }
  std::vector<std::string> texts, told;
  for (const auto& [host, of_host] : hosts) {
    texts.push_back(devices_of_host(of_host));
    told.push_back(fmt::format("{} of {}", texts.back(), host));
  }
  if (std::all_of(texts.begin(), texts.end(), [&](const std::string& text) { return text == texts.front(); }))
    return texts.front() + (hosts.size() > 1 && texts.front() != "cpu" ? " of each host" : "");
  return first_names(told);
}

std::vector<RankDevice> devices_of_ranks(Job& job, const Device& device) {
  const nlohmann::json own{host_name(), device.name(), device.model(), device.identity()};
  std::vector<RankDevice> out;
  for (const std::string& text : job.gather("devices", own.dump())) {
    const auto all = nlohmann::json::parse(text).get<std::vector<std::string>>();
    out.push_back({all.at(0), all.at(1), all.at(2), all.at(3)});
  }
  return out;
}

void require_same_device(Job& job, const Config& config) {
  if (job.size() == 1) return;
  const std::vector<std::string> devices = job.gather("devices", config.run.device), hosts = job.gather("hosts", host_name());
  const std::vector<std::string> visible = job.gather("visible devices", text_of_variable("CUDA_VISIBLE_DEVICES"));
  job.together("devices", [&] {
    if (job.speaks()) fail_on_mixed_devices(config, devices, hosts, visible);
  });
  if (config.run.device != "cuda") return;
  for (const char* variable : kVariablesOfProducts) {
    const auto values = ranks_by_text(job.gather(variable, text_of_variable(variable)));
    job.together(variable, [&] {
      if (values.size() == 1 || !job.speaks()) return;
      std::vector<std::string> texts;
      for (const auto& [value, ranks] : values) texts.push_back(fmt::format("{} on {}", value, ranks_text(ranks)));
      fail_input(
          "the environment variable {} is {}: results of products on a GPU depend on it. Start all ranks with one value "
          "(mpirun -x {}), or all without it",
          variable, first_names(texts), variable);
    });
  }
}

}  // namespace zerostep
