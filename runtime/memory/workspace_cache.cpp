#include "runtime/memory/workspace_cache.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/blas_workspace.h"
#include "base/user_cache_folder.h"
#include "runtime/memory/machine_description.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr uintmax_t kMostFileBytes = 4 << 20;

// null: not measured.
json to_json(const Workspace& w) {
  if (!w.is_measured) return nullptr;
  return {w.inference_bytes, w.forward_bytes, w.backward_bytes, w.accumulating_backward_bytes};
}
Workspace from_json(const json& j) {
  if (j.is_null()) return {.is_measured = false};
  return {j.at(0).get<int64_t>(), j.at(1).get<int64_t>(), j.at(2).get<int64_t>(), j.at(3).get<int64_t>()};
}

}  // namespace

std::string machine_key(const Device& device) {
  struct stat program {};
  ::stat("/proc/self/exe", &program);
  const std::string gpu = device.is_host() ? "" : fmt::format("|{}, cuBLAS {}", device.model(), blas_workspace_bytes());
  return fmt::format("{}|{} threads|{} {}.{}{}", machine_description(), at::get_num_threads(), program.st_size, program.st_mtim.tv_sec,
                     program.st_mtim.tv_nsec, gpu);
}

bool recall(const std::string& file, const std::string& key, size_t num_units, Workspaces& out) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return false;  // a pipe would be waited for
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.find(key) == std::string::npos) continue;
    try {
      const json j = json::parse(line);
      Workspaces found;
      for (const json& w : j.at("units")) found.units.push_back(from_json(w));
      found.objective = from_json(j.at("objective"));
      found.extrapolated = j.at("extrapolated").get<bool>();
      if (j.at("key") != key || found.units.size() != num_units) continue;
      out = std::move(found);
      return true;
    } catch (const json::exception&) {
      continue;
    }
  }
  return false;
}

void remember(const std::string& file, const std::string& key, const Workspaces& found) {
  std::error_code ignored;
  const std::filesystem::path path(file);
  std::filesystem::create_directories(path.parent_path(), ignored);
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) return;
  if (std::filesystem::file_size(path, ignored) > kMostFileBytes && !ignored) std::filesystem::remove(path, ignored);
  json j{{"key", key}, {"extrapolated", found.extrapolated}, {"objective", to_json(found.objective)}, {"units", json::array()}};
  for (const Workspace& w : found.units) j["units"].push_back(to_json(w));
  std::ofstream(file, std::ios::app) << j.dump() + "\n";  // in one write
}

std::string WorkspaceMeter::default_file() {
  const std::string folder = user_cache_folder();
  return folder.empty() ? "" : folder + "/workspaces.jsonl";
}

}  // namespace zerostep
