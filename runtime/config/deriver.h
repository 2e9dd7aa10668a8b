#pragma once
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "models/model_options.h"
#include "runtime/config/catalogue.h"
#include "runtime/config/values.h"

namespace zerostep::schema {

// The keys that hold sources.
constexpr std::array kSourceLists{"data.train", "data.bp_train", "data.eval", "data.test"};
// All files or globs of some sources.
std::vector<std::string> files_of(const std::vector<SourceConfig>& sources);

// What derive() does to the values of one configuration: defaults, "auto", what follows from other values, and what several keys must agree
// on. Parts depend on the ones before them in run().
class Deriver {
 public:
  Deriver(Values& values, const ConfigRequest& request, Findings& findings);
  void run();
  // No more of it than says which keys have an effect where they stand.
  void run_contexts();

 private:
  bool is_auto(std::string_view path) const { return auto_.contains(std::string(path)); }
  void derived(std::string_view path, nlohmann::json value, std::string note = {}) {
    if (v_.has(path)) return;
    v_.set(path, std::move(value), Origin::Derived);
    v_.find(path)->note = std::move(note);
  }
  std::string mode() const { return v_.text("step.mode"); }
  int64_t integer_or(std::string_view path, int64_t missing) const { return v_.has(path) ? v_.integer(path) : missing; }
  std::string family() const { return v_.has("model.family") ? v_.text("model.family") : "gpt2"; }

  // derive.cpp
  void defaults();
  // Ranks over which the samples of a batch are split: with forward passes alone, those of one direction group.
  int64_t data_ranks() const;
  void batch();
  // Of data.sequence_length, which the model gives where the file does not; the queries' length follows from it.
  void sequence_length();
  // Why a model cannot see so long a sample.
  std::string more_than_positions(int64_t length) const;
  void data_and_run();
  void precision();
  void sharding();
  void offload();
  void nvme_path(const std::string& path);
  // Files are named, and none of them can be one of JSON lines.
  bool names_no_rows_with_fields() const;
  std::map<Context, bool> contexts_that_hold() const;
  void contexts();

  // derive_optimizer.cpp
  // Parameters that several optimizers have, each with a default of its own.
  void defaults_of_optimizer();
  void optimizer_and_scheduler();
  void warn_of_unused_rates(const std::string& scheduler);
  void warn_of_early_end(const std::string& scheduler);

  // derive_model.cpp
  static bool is_beside_path(std::string_view path);
  // What the file says beside model.path, which says the rest.
  void model_of_directory();
  // Says where texts become bytes because the directory holds no tokenizer.
  void tokenizer_of_directory();
  void model_of_sizes();
  static std::vector<std::string_view> dropouts_of(std::string_view family);
  void spread_dropout(std::string_view family);
  void model();
  // {"LABEL": "word", ...} or ["word", ...], two of them at least.
  void label_words();
  void task();

  // derive_sources.cpp
  // The sources of data.train and its like, those of the catalogue by their names.
  void sources();
  std::vector<SourceConfig> sources_of(const std::string& list);
  // The files that entries name, each for itself; "": of a name of the catalogue, which is not looked up.
  std::vector<SourceConfig> sources_as_written(const std::string& list) const;
  // One of a list; nothing where it has been said what is wrong.
  std::optional<SourceConfig> source_of(const nlohmann::json& given, const std::string& path);
  // `as_path`: what the name may be the path of as well; "": of nothing.
  std::optional<SourceConfig> source_of_catalogue(const std::string& name, const std::string& path, const std::string& as_path);
  void check_together(const std::string& list, const std::vector<SourceConfig>& sources);

  // derive_step.cpp
  // The batch of a backprop step, or of a direction: `samples` over `ranks` in micro-batches of the given size.
  void check_batch(std::string_view path, int64_t samples, int64_t ranks);
  void queries();
  void check_values(int64_t queries, bool central);
  void check_schedule(const std::string& block);
  // The rank of a direction is below that of every matrix: above it the two factors hold more than the matrix.
  void check_rank();

  Values& v_;
  int world_;
  std::string started_;
  Findings& findings_;
  std::set<std::string> auto_;
  std::vector<std::string> chosen_;  // what "auto" stands for by a search: values like given ones, of which nothing is warned
  std::optional<ModelSizes> sizes_;
  std::optional<Catalogue> catalogue_;  // once it was asked for
};

}  // namespace zerostep::schema
