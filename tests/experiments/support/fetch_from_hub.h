#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "experiments/fetch/fetch_data_set.h"
#include "runtime/config/catalogue.h"
#include "tests/support/expect_says.h"
#include "tests/support/fake_hub.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep::testing {

using nlohmann::json;

// Sets variables until it goes.
class Variables {
 public:
  void set(const std::string& name, const std::string& value) {
    const char* before = std::getenv(name.c_str());
    before_.emplace(name, before == nullptr ? std::optional<std::string>() : before);
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : before_) value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

// Bytes in which every place is told from every other.
inline std::string content_of(size_t size, uint32_t seed) {
  std::string out(size, '\0');
  for (char& c : out) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return out;
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

// A data set "mine" of a catalogue, on a hub of the test's own.
class FetchFromHub : public ::testing::Test {
 protected:
  FetchFromHub() {
    variables_.set("no_proxy", "127.0.0.1");
    hub_.files["data/a.parquet"] = content_of(5000, 1);
    settings_.endpoint = hub_.url();
    settings_.pause_seconds = 0.001;
  }

  static json entry(const json& source = {{"hub", "o/n"}, {"files", "data/*.parquet"}}, const json& files = "mine/data/*.parquet") {
    return {{"mine", {{"files", files}, {"source", source}}}};
  }
  HubSource source(const json& entries = entry()) const {
    write("datasets.json", entries.dump());
    const auto catalogue = schema::Catalogue::read(scratch_.path("datasets.json"));
    return {catalogue, *catalogue.find("mine")};
  }
  FetchOutcome fetch(const json& entries = entry(), int64_t documents = 0) {
    FetchRequest request{.name = "mine", .hub = settings_, .documents = documents};
    request.progress = [&](const FetchState& state) { states_.push_back(state); };
    request.say = [&](const std::string& text) {
      said_ += text + "\n";
      // Otherwise it would be waited for.
      if (!may_wait_ && text.find("; again in ") != std::string::npos) throw std::logic_error("is waited for: " + text);
    };
    return fetch_data_set(source(entries), request);
  }
  template <typename Error = RunError>
  std::string failure(const json& entries = entry()) {
    return message_of<Error>([&] { fetch(entries); });
  }

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = scratch_.path(name);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string read(const std::string& name) const { return read_file(scratch_.path(name)); }
  bool exists(const std::string& name) const { return std::filesystem::exists(scratch_.path(name)); }
  const std::string& a() const { return hub_.files.at("data/a.parquet"); }
  // Cuts the answers with the content of files, as many as `times`, behind so many bytes.
  void cut_files(int times, size_t bytes) {
    hub_.change = [this, times, bytes](const Asked& asked, Reply& reply) {
      if (asked.target.find("/resolve/") == std::string::npos || changed_ >= times) return;
      ++changed_;
      reply.most_bytes = bytes;
    };
  }
  // Gives files this answer, as many times.
  void answer_files(int times, const Reply& with) {
    hub_.change = [this, times, with](const Asked& asked, Reply& reply) {
      if (asked.target.find("/resolve/") != std::string::npos && changed_++ < times) reply = with;
    };
  }

  // A part of a file, as an earlier call has left it; of the content that it is of by `checksum`.
  void write_part(const std::string& content, const std::string& checksum) const {
    write("mine/data/a.parquet.part", content);
    write("mine/data/a.parquet.part.json", json{{"checksum", checksum}}.dump());
  }
  void remove_all() const { std::filesystem::remove_all(scratch_.path("mine")); }
  // What is told of the progress never goes beyond all of it, and ends there.
  void expect_progress_ends_at(int64_t num_bytes) const {
    for (const FetchState& state : states_) EXPECT_LE(state.fetched_bytes, state.bytes_to_fetch.value());
    EXPECT_EQ(states_.back().fetched_bytes, num_bytes);
    EXPECT_EQ(states_.back().bytes_to_fetch, num_bytes);
  }

  Variables variables_;
  ScratchFolder scratch_;
  HubSettings settings_;
  std::atomic<int> changed_ = 0;
  FakeHub hub_;
  std::string said_;
  bool may_wait_ = true;
  std::vector<FetchState> states_;
};

}  // namespace zerostep::testing
