#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "launch/subject.h"

namespace zerostep {
namespace {

void append_rows(const at::Tensor& rows, std::vector<std::vector<int64_t>>& out) {
  const int64_t width = rows.size(1), *values = rows.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows.size(0); ++r) out.emplace_back(values + r * width, values + (r + 1) * width);
}

}  // namespace

int inspect_batches(const InspectBatchesArguments& arguments) {
  const Subject subject = load_subject(arguments, arguments.world);
  print_warnings(subject.loaded);
  const auto data = open_training_data(subject);
  const int64_t batch_size = subject.config().batch.train_batch_size;
  // As one rank with one micro-batch sees them: the labels that training uses.
  const BatchShape whole{batch_size, batch_size, 0, 1};
  for (int64_t step = arguments.first_step; step < arguments.first_step + arguments.steps; ++step) {
    nlohmann::ordered_json line;
    line["step"] = step;
    auto& samples = line["samples"] = nlohmann::ordered_json::array();
    for (int64_t j = 0; j < batch_size; ++j) samples.push_back(data->sample(step * batch_size + j));
    std::vector<std::vector<int64_t>> labels;
    append_rows(data->batch(step, 0, whole).labels, labels);
    line["labels"] = labels;
    fmt::print("{}\n", line.dump());
  }
  return kDone;
}

int inspect_model(const ConfigArguments& arguments) {
  const Subject subject = load_subject(arguments, 1);
  print_warnings(subject.loaded);
  nlohmann::ordered_json out;
  out["units"] = nlohmann::ordered_json::array();
  for (const UnitInfo& unit : subject.model->units()) {
    nlohmann::ordered_json parameters = nlohmann::ordered_json::array();
    for (const ParameterInfo& p : unit.parameters) parameters.push_back({{"name", p.name}, {"shape", p.shape}, {"first", p.first}});
    out["units"].push_back({{"name", unit.name}, {"parameters", parameters}});
  }
  out["elements"] = subject.model->num_elements();
  fmt::print("{}\n", out.dump(1));
  return kDone;
}

}  // namespace zerostep
