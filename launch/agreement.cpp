#include "launch/agreement.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/host_name.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// Where two resolved configurations differ first.
std::string first_difference(const std::string& first, const std::string& other, int rank) {
  const auto a = nlohmann::json::parse(first), b = nlohmann::json::parse(other);
  const auto flat_a = a.flatten(), flat_b = b.flatten();
  const auto text = [](const nlohmann::json& flat, const std::string& path) {
    return flat.contains(path) ? flat.at(path).dump() : "absent";
  };
  for (const auto& flat : {flat_a, flat_b})
    for (const auto& [path, value] : flat.items())
      if (text(flat_a, path) != text(flat_b, path))
        return fmt::format(
            "rank {} was started with another configuration than rank 0: {} is {} there and {} on rank 0. Start every rank with the same "
            "file and the same --set",
            rank, path.substr(1), text(flat_b, path), text(flat_a, path));
  return fmt::format("rank {} was started with another configuration than rank 0", rank);
}

// A file that goes with the object; "" where none can be made.
class Probe {
 public:
  explicit Probe(const std::string& folder) {
    std::error_code ignored;
    fs::create_directories(folder, ignored);
    path_ = (fs::absolute(folder, ignored) / ".shared-XXXXXX").string();
    if (!FileDescriptor(::mkstemp(path_.data())).is_open()) path_.clear();
  }
  ~Probe() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  std::string name() const { return fs::path(path_).filename().string(); }

 private:
  std::string path_;
};

// A client of a network file system may take seconds to see what another has written.
bool appears(const fs::path& path) {
  constexpr auto kPatience = std::chrono::seconds(3);
  std::error_code ignored;
  for (const auto begin = std::chrono::steady_clock::now(); !fs::exists(path, ignored);) {
    if (std::chrono::steady_clock::now() - begin > kPatience) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

}  // namespace

void require_same_configuration(Job& job, const Subject& subject) {
  nlohmann::json identity = nlohmann::json::parse(subject.loaded.resolved_json);
  identity["tokenizer"] = subject.tokenizer->fingerprint();
  job.require_equal("configuration", identity.dump(), first_difference);
}

void require_same_inputs(Job& job, const std::vector<SharedInput>& inputs) {
  std::string fingerprints;
  for (const SharedInput& input : inputs) fingerprints += input.fingerprint + "\n";
  const std::vector<std::string> all = job.gather("inputs", fingerprints), hosts = job.gather("hosts", host_name());
  job.together("inputs", [&] {
    if (!job.speaks()) return;
    for (size_t rank = 1; rank < all.size(); ++rank) {
      std::istringstream first(all[0]), other(all[rank]);
      for (const SharedInput& input : inputs) {
        std::string mine, theirs;
        std::getline(first, mine);
        std::getline(other, theirs);
        if (mine != theirs)
          fail_input(
              "{} has another content on rank {} (host {}) than on rank 0 (host {}): every host must have the same files under the same "
              "paths",
              input.name, rank, hosts[rank], hosts[0]);
      }
    }
  });
}

std::string fingerprint_of_values(const ModelDefinition& model, const ParameterReader& values) {
  constexpr int64_t kSample = 256;  // at either end of a parameter
  ContentHash hash;
  std::vector<float> sample(kSample);
  for (const UnitInfo& unit : model.units())
    for (const ParameterInfo& parameter : unit.parameters) {
      const int64_t elements = parameter.num_elements(), count = std::min(kSample, elements);
      for (const int64_t begin : {int64_t{0}, elements - count}) {
        values(parameter, begin, count, sample.data());
        hash.add(std::string_view(reinterpret_cast<const char*>(sample.data()), static_cast<size_t>(count) * sizeof(float)));
      }
    }
  return hash.hex();
}

void require_shared_output(Job& job, const Config& config) {
  if (job.size() == 1) return;
  std::optional<Probe> probe;
  if (job.speaks()) probe.emplace(config.run.output_dir);
  // Where rank 0 cannot write there, the making of the run's folder says so.
  const std::string name = job.share("folder of the runs", probe ? probe->name() : "");
  const std::string writer = job.share("hosts", host_name());
  job.together("folder of the runs", [&] {
    const fs::path path = fs::path(config.run.output_dir) / name;
    if (name.empty() || appears(path)) return;
    fail_input(
        "{}: run.output_dir: host {} does not find {}, which rank 0 has written on host {}: every rank writes its part of a checkpoint "
        "(and of a trace) into the folder of the run. Set run.output_dir to a folder on a file system that all hosts share",
        config.source("run.output_dir"), host_name(), path.string(), writer);
  });
}

}  // namespace zerostep
