#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "experiments/probe/epsilon_curve.h"
#include "experiments/probe/rate_curve.h"
#include "experiments/text/blocks.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/model_files.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

struct Curves {
  std::vector<EpsilonError> epsilons;
  std::optional<double> epsilon;
  // Of optimizer.params.lr and, where the file gives it, step.bp_lr.
  struct Rate {
    ProbedSteps tried;
    RateCurve curve;
    std::optional<RecommendedRate> recommended;
  };
  std::vector<Rate> rates;
};

// The settings that take the dropout out of a file's model.
std::vector<Setting> without_dropout(const ModelOptions& options) {
  std::vector<Setting> out;
  if (std::holds_alternative<Gpt2Options>(options))
    out = {{"model.resid_pdrop=0", ""}, {"model.embd_pdrop=0", ""}, {"model.attn_pdrop=0", ""}};
  if (const auto* bert = std::get_if<BertOptions>(&options)) {
    const BertKeys& keys = bert_keys(bert->kind);
    for (const char* key : {keys.hidden_dropout, keys.attention_dropout}) out.push_back({fmt::format("model.{}=0", key), ""});
    if (bert->kind == BertOptions::Kind::DistilBert) out.push_back({fmt::format("model.{}=0", keys.head_dropout), ""});
  }
  return out;
}

void check_file(const Config& config) {
  if (config.step.is_accuracy)
    fail_input(
        "{}: step.objective is \"accuracy\", which has no derivative that an epsilon could be compared with: probe the file with `--set "
        "step.objective=cross_entropy`, whose epsilon is a good first one",
        config.source("step.objective"));
}

// Bars of values, with the names of the columns below.
std::string picture(const std::vector<double>& values, const std::vector<double>& names, const char* what) {
  constexpr int kHeight = 8, kWidth = 5;
  std::string text = fmt::format("  {}\n", what), below;
  for (const std::string& line : columns_of_blocks(values, kHeight, kWidth)) text += "  " + line + "\n";
  for (double name : names) below += fmt::format("{:<6}", fmt::format("{:.0e}", name));
  return text + "  " + below + "\n";
}

// Losses as a picture shows them: as far above the start as the lowest is below it, so that one that diverges does not hide the others.
std::vector<double> cut_losses(const RateCurve& curve) {
  double lowest = curve.start;
  for (const RateLoss& row : curve.rates)
    if (row.loss < lowest) lowest = row.loss;
  std::vector<double> out;
  for (const RateLoss& row : curve.rates) out.push_back(std::isfinite(row.loss) ? std::min(row.loss, 2 * curve.start - lowest) : row.loss);
  return out;
}

std::string value_text(double value) { return std::isfinite(value) ? fmt::format("{:.4g}", value) : "diverges"; }

// A recommended epsilon or rate with the rule that it comes from.
std::string why_epsilon(const Curves& curves, const Config& config) {
  if (!curves.epsilon) return "\nno epsilon gives a finite loss: nothing is recommended\n";
  return fmt::format(
      "\nrecommended epsilon: {:g} (step.epsilon; now {:g}): the middle of those around the lowest error whose error is at most twice "
      "that.\n",
      *curves.epsilon, config.step.epsilon);
}

std::string why_rate(const Curves::Rate& probed, const Config& config, int64_t steps) {
  if (!probed.recommended) return "\nno rate has lowered the loss: more steps (--steps) may tell\n";
  const RecommendedRate& rate = *probed.recommended;
  const std::vector<RateLoss>& table = probed.curve.rates;
  const bool is_backprop = probed.tried == ProbedSteps::Backprop;
  std::string text =
      fmt::format("\nrecommended learning rate: {:g} ({}; now {:g}): ", rate.lr, is_backprop ? "step.bp_lr" : "optimizer.params.lr",
                  is_backprop ? *config.step.bp_lr : config.optimizer.lr);
  const std::string good = rate.good == rate.best ? fmt::format("{:g}, which lowers the loss most", rate.best)
                                                  : fmt::format(
                                                        "{:g}, the lowest rate that lowers the loss by {:g} % of what the best, "
                                                        "{:g}, does",
                                                        rate.good, 100 * kNearlyAsMuch, rate.best);
  if (rate.lr < rate.good)
    text += fmt::format("half a decade below {}, since what descends fastest within {} is close to what diverges in many.\n", good,
                        counted(steps, "step"));
  else
    text += good + (rate.lr == table.front().lr ? "; the table has none below it.\n"
                                                : "; half a decade below the loss is no lower than before.\n");
  text +=
      "Twice the steps move it, as a rule, by no more than half a decade, mostly down: a smaller rate needs more steps to do as much.\n";
  if (rate.best == table.back().lr) text += "The loss still falls at the last rate of the table: a larger one may do more.\n";
  return text;
}

// The table of rates with its picture and what it recommends.
std::string rate_text(const Curves::Rate& probed, const Config& config, int64_t steps) {
  const char* of_steps = probed.tried == ProbedSteps::ForwardOnly ? " of forward-only steps (that of backprop steps is 0)"
                         : probed.tried == ProbedSteps::Backprop  ? " of backprop steps (that of forward-only steps is 0)"
                                                                  : "";
  std::string text = fmt::format("\nLearning rate{}: loss after {} of {}, {} ({:.4f} before them)\n\n", of_steps, counted(steps, "step"),
                                 config.step.mode_name, config.optimizer.type_name, probed.curve.start);
  text += "        lr        loss\n";
  std::vector<double> rates;
  for (const RateLoss& row : probed.curve.rates) {
    text += fmt::format("  {:>8.0e}  {:>10}{}\n", row.lr, std::isfinite(row.loss) ? fmt::format("{:.5f}", row.loss) : "diverges",
                        probed.recommended && row.lr == probed.recommended->lr ? "  <" : "");
    rates.push_back(row.lr);
  }
  const auto is_finite = [](const RateLoss& row) { return std::isfinite(row.loss); };
  if (std::any_of(probed.curve.rates.begin(), probed.curve.rates.end(), is_finite))
    text += "\n" + picture(cut_losses(probed.curve), rates, "loss, cut where it is far above that at the start");
  return text + why_rate(probed, config, steps);
}

void print_text(const Config& config, const ProbeArguments& arguments, const Curves& curves) {
  std::vector<double> errors, epsilons;
  std::string text =
      fmt::format("Epsilon: error of {} differences against the derivative of backprop in fp32, over {} directions ({}, {})\n\n",
                  config.step.estimator == StepConfig::Estimator::Central ? "central" : "one-sided", arguments.directions,
                  name_of(config.precision.compute),
                  counted(config.step.uses_queries() ? config.step.query_batch.train_batch_size : config.batch.train_batch_size, "sample"));
  text += "   epsilon       error\n";
  for (const EpsilonError& row : curves.epsilons) {
    text += fmt::format("  {:>8.0e}  {:>10}{}\n", row.epsilon, value_text(row.error), row.epsilon == curves.epsilon ? "  <" : "");
    epsilons.push_back(row.epsilon);
    errors.push_back(row.error > 0 ? std::log10(row.error) : std::numeric_limits<double>::quiet_NaN());
  }
  text += "\n" + picture(errors, epsilons, "logarithm of the error");
  text += why_epsilon(curves, config);
  if (config.step.mode == StepConfig::Mode::Instruct)
    text +=
        "Directions that a gradient instructs have length 1, random ones about the root of the number of weights: this epsilon is that of "
        "random ones.\n";
  for (const Curves::Rate& rate : curves.rates) text += rate_text(rate, config, arguments.steps);
  print_out(text);
}

nlohmann::ordered_json or_null(double value) { return std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr; }
nlohmann::ordered_json or_null(const std::optional<double>& value) { return value ? nlohmann::ordered_json(*value) : nullptr; }

nlohmann::ordered_json json_of(const Curves::Rate& probed) {
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  for (const RateLoss& row : probed.curve.rates) table.push_back({{"lr", row.lr}, {"loss", or_null(row.loss)}});
  const double rate = probed.recommended ? probed.recommended->lr : std::numeric_limits<double>::quiet_NaN();
  return {{"recommended", or_null(rate)}, {"start_loss", or_null(probed.curve.start)}, {"table", table}};
}

void print_json(const Config& config, const ProbeArguments& arguments, const Curves& curves) {
  nlohmann::ordered_json epsilons = nlohmann::ordered_json::array();
  for (const EpsilonError& row : curves.epsilons) epsilons.push_back({{"epsilon", row.epsilon}, {"error", or_null(row.error)}});
  nlohmann::ordered_json out{{"mode", config.step.mode_name},
                             {"directions", arguments.directions},
                             {"steps", arguments.steps},
                             {"epsilon", {{"recommended", or_null(curves.epsilon)}, {"table", epsilons}}}};
  for (const Curves::Rate& rate : curves.rates) out[rate.tried == ProbedSteps::Backprop ? "bp_lr" : "lr"] = json_of(rate);
  print_out("{}\n", out.dump(1));
}

}  // namespace

int probe(Job& job, const ProbeArguments& arguments) {
  if (job.size() > 1)
    fail_input("probe: is for one rank, and mpirun has started {}: call it without mpirun; what it finds holds for any number of ranks",
               job.size());
  set_threads(job.cores());
  Subject subject = load_subject_on_one_rank(arguments);
  const Config& config = subject.config();
  check_file(config);
  ConfigArguments still = arguments;
  const std::vector<Setting> settings = without_dropout(config.model.options);
  still.set.insert(still.set.end(), settings.begin(), settings.end());
  const Subject subject_without_dropout = load_subject_on_one_rank(still);
  print_warnings(subject.loaded);
  const std::unique_ptr<DataStream> data = open_training_data(subject, notes_to_stderr()),
                                    backprop = open_backprop_data(subject, notes_to_stderr());
  const ModelValues values = starting_values(subject);
  for (const std::string& note : values.notes) print_err("warning: {}\n", note);
  const Device device = open_device(config, 0);
  const bool shows_progress = ::isatty(STDERR_FILENO) != 0;
  Curves curves;
  run_local_ranks(1, {config.run.collective_timeout_seconds}, [&](const Communicator& self) {
    const ProbeInput input{config,
                           *subject.model,
                           *subject_without_dropout.model,
                           *subject.objective,
                           values.read,
                           *data,
                           backprop.get(),
                           memory_limit(config, device, 1),
                           device,
                           group_on(device, self, config).ranks,
                           [&](const std::string& text) {
                             if (shows_progress) show_status(text);
                           }};
    const std::vector<double> slopes = true_slopes(input, arguments.directions);
    curves.epsilons = epsilon_curve(input, usual_epsilons(), slopes);
    curves.epsilon = recommended_epsilon(curves.epsilons);
    const bool has_two = config.step.mode == StepConfig::Mode::Alternating && config.step.bp_lr;
    for (const ProbedSteps tried : has_two ? std::vector{ProbedSteps::ForwardOnly, ProbedSteps::Backprop} : std::vector{ProbedSteps::All}) {
      RateCurve curve = rate_curve(input, tried, curves.epsilon.value_or(config.step.epsilon), arguments.steps);
      const std::optional<RecommendedRate> recommended = recommended_rate(curve);
      curves.rates.push_back({tried, std::move(curve), recommended});
    }
  });
  if (shows_progress) show_status("");
  arguments.json ? print_json(config, arguments, curves) : print_text(config, arguments, curves);
  return kDone;
}

}  // namespace zerostep
