#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <set>

#include "base/error.h"
#include "runtime/config/model_block.h"
#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

struct Preset {
  std::string_view name;
  int64_t n_layer, n_embd, n_head, n_positions;
};
constexpr Preset kPresets[] = {
    {"gpt2-20M", 6, 256, 4, 512},      {"gpt2-200M", 12, 768, 12, 1024}, {"gpt2-500M", 24, 1024, 16, 1024},
    {"gpt2-800M", 28, 1536, 24, 1024}, {"gpt2-1B", 32, 1600, 25, 1024},
};
constexpr int64_t kGpt2Vocabulary = 50257;
constexpr int64_t kByteVocabulary = 257;

// What Hugging Face's integration fills in for "auto" where that is not the default.
constexpr double kAutoLearningRate = 5e-5;
constexpr int64_t kAutoMicroBatch = 8;
constexpr int64_t kAutoWarmupSteps = 1;

class Deriver {
 public:
  Deriver(Values& values, int world, Findings& findings) : v_(values), world_(world), findings_(findings) {
    for (const auto& [path, value] : v_.all()) {
      if (value.origin == Origin::Auto) auto_.insert(path);
    }
    for (const std::string& path : auto_) v_.erase(path);
  }

  void run() {
    defaults();
    batch();
    model();
    queries();
    data_and_run();
    optimizer_and_scheduler();
    precision();
    sharding();
    for (const std::string& path : auto_) {
      if (Value* value = v_.find(path)) {
        value->origin = Origin::Auto;
        value->written = true;
      }
    }
    contexts();
  }

 private:
  bool is_auto(std::string_view path) const { return auto_.contains(std::string(path)); }
  void derived(std::string_view path, json value, std::string note = {}) {
    if (v_.has(path)) return;
    v_.set(path, std::move(value), Origin::Derived);
    v_.find(path)->note = std::move(note);
  }
  std::string mode() const { return v_.text("step.mode"); }
  int64_t integer_or(std::string_view path, int64_t missing) const { return v_.has(path) ? v_.integer(path) : missing; }

  void defaults() {
    // The types come first: they decide which parameters there are.
    std::string optimizer, scheduler;
    if (!v_.has("optimizer.type")) {
      v_.set("optimizer.type", "AdamW", Origin::Default);
      findings_.warn("optimizer.type is not given: AdamW is used");
    }
    optimizer = v_.text("optimizer.type");
    if (v_.has("scheduler.type")) scheduler = v_.text("scheduler.type");
    for (const Key& key : keys()) {
      if (key.list != List::Honoured || key.value.empty() || v_.has(key.path) || key.path.find("[]") != std::string_view::npos) continue;
      const bool of_scheduler = key.path.starts_with("scheduler.params.");
      if (of_scheduler && scheduler.empty()) continue;
      if (key.path.starts_with("model.") && v_.has("model.path") && !is_beside_path(key.path)) continue;
      const std::string of = of_scheduler ? scheduler : key.path.starts_with("model.") ? family() : optimizer;
      if (!key.of.empty() && !has_word(key.of, of)) continue;
      v_.set(key.path, json::parse(key.value), Origin::Default);
    }
  }

  // Ranks over which the samples of a batch are split: with forward passes alone, those of one direction group.
  int64_t data_ranks() const {
    const int64_t groups = v_.integer("step.direction_parallel");
    return mode() == "zo" && world_ % groups == 0 ? world_ / groups : world_;
  }

  void batch() {
    const int64_t ranks_of_batch = data_ranks();
    constexpr std::string_view kTrain = "train_batch_size", kMicro = "train_micro_batch_size_per_gpu",
                               kSteps = "gradient_accumulation_steps";
    if (!v_.has(kTrain) && !v_.has(kMicro) && (is_auto(kTrain) || is_auto(kMicro))) v_.set(kMicro, kAutoMicroBatch, Origin::Auto);
    const int64_t train = integer_or(kTrain, 0), micro = integer_or(kMicro, 0), steps = integer_or(kSteps, 0);
    const std::string ranks = ranks_of_batch == 1 ? "1 data-parallel rank" : fmt::format("{} data-parallel ranks", ranks_of_batch);
    const auto fill = [&](std::string_view path, int64_t value) {
      v_.set(path, value, Origin::Derived);
      v_.find(path)->written = false;
    };
    if (train == 0 && micro == 0) {
      return findings_.error(kTrain, fmt::format("is missing, and so is {}: give one of them, the rest follows from {}", kMicro, ranks));
    }
    // What the given values make, in 128 bits: the product of three values in range may not fit 64.
    using Wide = __int128;
    const Wide made = static_cast<Wide>(micro > 0 ? micro : 1) * (steps > 0 ? steps : 1) * ranks_of_batch;
    if (train == 0) {
      if (made > kLargestBatch) {
        return findings_.error(kMicro, fmt::format("{} x {} {} x {} is beyond the largest batch, {}", micro, kSteps,
                                                   std::max<int64_t>(steps, 1), ranks, kLargestBatch));
      }
      fill(kTrain, static_cast<int64_t>(made));
      if (steps == 0) fill(kSteps, 1);
      return;
    }
    std::string factors;
    if (micro > 0) factors += fmt::format("{} {} x ", kMicro, micro);
    if (steps > 0) factors += fmt::format("{} {} x ", kSteps, steps);
    factors += ranks;
    if (micro > 0 && steps > 0) {
      if (made != train) {
        findings_.error(kTrain, fmt::format("is {}, but {} = {}: change one of them, or leave one out", train, factors,
                                            made > kLargestBatch ? "more than " + std::to_string(kLargestBatch)
                                                                 : std::to_string(static_cast<int64_t>(made))));
      }
      return;
    }
    if (train % made != 0) {
      const auto divisor = static_cast<int64_t>(std::min<Wide>(made, INT64_MAX));
      return findings_.error(kTrain, fmt::format("is {}, which does not divide by {} = {} ({} = {} x {} + {}): choose a multiple of {}",
                                                 train, factors, divisor, train, train / divisor, divisor, train % divisor, divisor));
    }
    const auto rest = static_cast<int64_t>(train / made);
    if (micro > 0) {
      fill(kSteps, rest);
    } else {
      fill(kMicro, rest);
      if (steps == 0) fill(kSteps, 1);
    }
  }

  std::string family() const { return v_.has("model.family") ? v_.text("model.family") : "gpt2"; }
  static bool is_beside_path(std::string_view path) {
    return has_word(
        "model.path|model.task|model.num_labels|model.classifier_pooling|model.trainable|model.dropout|model.resid_pdrop|model.embd_pdrop|"
        "model.attn_pdrop|model.hidden_dropout_prob|model.attention_probs_dropout_prob",
        path);
  }

  // What the file says beside model.path, which says the rest.
  void model_of_directory() {
    for (const auto& [path, value] : v_.all()) {
      if (path.starts_with("model.") && value.origin == Origin::Given && value.effective && !is_beside_path(path))
        findings_.error(path, "stands beside model.path, whose config.json says it: take one of them out");
    }
    try {
      spread_dropout(sizes_of(model_options_of(v_)).family);
    } catch (const InputError&) {  // said below
    }
    const std::string directory = v_.text("model.path");
    const bool of_tokenizer = v_.find("data.tokenizer")->origin == Origin::Default && holds_tokenizer(directory);
    if (of_tokenizer) v_.set("data.tokenizer", directory, Origin::Derived);
  }

  void model_of_sizes() {
    if (v_.has("model.preset")) {
      const std::string name = v_.text("model.preset");
      if (family() != "gpt2") findings_.error("model.preset", fmt::format("is {}, and model.family is \"{}\"", shown(name), family()));
      for (const Preset& preset : kPresets) {
        if (preset.name != name) continue;
        derived("model.n_layer", preset.n_layer);
        derived("model.n_embd", preset.n_embd);
        derived("model.n_head", preset.n_head);
        derived("model.n_positions", preset.n_positions);
        derived("model.vocab_size", kGpt2Vocabulary);
      }
    }
    const bool gpt2 = family() == "gpt2", bert = family() == "bert";
    std::string missing;
    for (std::string_view name :
         split_words(gpt2 ? "n_layer|n_embd|n_head|n_positions"
                          : "num_hidden_layers|hidden_size|intermediate_size|num_attention_heads|max_position_embeddings")) {
      if (!v_.has(fmt::format("model.{}", name))) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
    }
    if (!missing.empty()) {
      return findings_.error("model", fmt::format("names no preset and lacks {}: give model.preset (gpt2-20M, ...), model.path, or "
                                                  "model.family and these sizes",
                                                  missing));
    }
    if (v_.text("data.tokenizer") == "byte") derived("model.vocab_size", kByteVocabulary);
    if (!bert && !v_.has("model.tie_word_embeddings")) v_.set("model.tie_word_embeddings", gpt2, Origin::Default);
    spread_dropout(family());
    for (std::string_view path : dropouts_of(family()))
      if (!v_.has(path)) v_.set(path, 0.0, Origin::Default);
    if (!gpt2) return;
    const int64_t width = v_.integer("model.n_embd"), heads = v_.integer("model.n_head");
    if (width % heads != 0) findings_.error("model.n_head", fmt::format("is {}, which does not divide n_embd {}", heads, width));
  }

  static std::vector<std::string_view> dropouts_of(std::string_view family) {
    if (family == "gpt2") return {"model.resid_pdrop", "model.embd_pdrop", "model.attn_pdrop"};
    if (family == "bert") return {"model.hidden_dropout_prob", "model.attention_probs_dropout_prob"};
    return {};
  }
  void spread_dropout(std::string_view family) {
    if (!v_.has("model.dropout")) return;
    const auto paths = dropouts_of(family);
    if (paths.empty() && v_.number("model.dropout") > 0)
      findings_.error("model.dropout", fmt::format("is given, and a model of family \"{}\" has none: take it out", family));
    for (std::string_view path : paths) derived(path, v_.number("model.dropout"));
  }

  void model() {
    const bool from_directory = v_.has("model.path");
    const size_t before = findings_.num_errors();
    from_directory ? model_of_directory() : model_of_sizes();
    if (findings_.num_errors() > before) return;
    try {
      sizes_ = sizes_of(model_options_of(v_));
    } catch (const InputError& error) {
      return findings_.error(from_directory ? "model.path" : "model", fmt::format("is not a model: {}", error.what()));
    }
    if (from_directory) {
      const auto said = [&](std::string_view name, json value) {
        const std::string path = fmt::format("model.{}", name);
        v_.set(path, std::move(value), Origin::Derived);
        v_.find(path)->written = false;
        v_.find(path)->note = "config.json of model.path";
      };
      said("family", sizes_->family);
      said(sizes_->layers_name, sizes_->layers);
      said(sizes_->width_name, sizes_->width);
      said(sizes_->heads_name, sizes_->heads);
      said(sizes_->positions_name, sizes_->positions);
      said("vocab_size", sizes_->vocabulary);
    }
    task();
    const int64_t width = sizes_->width;
    const double hidden = static_cast<double>(width) * static_cast<double>(width);
    const auto from_model = [&](std::string_view path, double elements) {
      if (is_auto(path)) v_.set(path, static_cast<int64_t>(elements), Origin::Auto);
    };
    from_model("zero_optimization.reduce_bucket_size", hidden);
    from_model("zero_optimization.stage3_prefetch_bucket_size", 0.9 * hidden);
    from_model("zero_optimization.stage3_param_persistence_threshold", 10.0 * static_cast<double>(width));
  }

  // The batch of a backprop step, or of a direction: `samples` over `ranks` in micro-batches of the given size.
  void check_batch(std::string_view path, int64_t samples, int64_t ranks) {
    const int64_t micro = integer_or("train_micro_batch_size_per_gpu", 1);
    if (samples % (micro * ranks) != 0)
      findings_.error(path, fmt::format("is {}, which does not divide by train_micro_batch_size_per_gpu {} x {} rank{} = {}", samples,
                                        micro, ranks, ranks == 1 ? "" : "s", micro * ranks));
  }

  void queries() {
    if (mode() == "fo" || !v_.has("train_batch_size")) return;
    const int64_t groups = v_.integer("step.direction_parallel"), queries = v_.integer("step.queries");
    const bool central = v_.text("step.estimator") == "central";
    if (world_ % groups != 0)
      return findings_.error("step.direction_parallel",
                             fmt::format("is {}, which does not divide the {} ranks: every group needs as many", groups, world_));
    if (queries % groups != 0 && !(central && groups == 2 * queries))
      findings_.error("step.direction_parallel", fmt::format("is {}, which does not divide step.queries {}{}", groups, queries,
                                                             central ? fmt::format("; {} groups take one sign each", 2 * queries) : ""));
    const int64_t batch = v_.integer("train_batch_size");
    // In mode zo train_batch_size has been checked for the same ranks.
    if (mode() != "zo" || v_.has("step.query_batch_size"))
      check_batch("step.query_batch_size", integer_or("step.query_batch_size", batch), world_ / groups);
    derived("step.query_batch_size", batch);
    if (mode() != "zo") {
      if (v_.has("step.bp_batch_size")) check_batch("step.bp_batch_size", v_.integer("step.bp_batch_size"), world_);
      derived("step.bp_batch_size", batch);
    }
    check_values(queries, central);
    if (!v_.has("data.sequence_length")) return;
    derived("step.query_sequence_length", v_.integer("data.sequence_length"));
    const int64_t length = v_.integer("step.query_sequence_length");
    if (sizes_ && length > sizes_->positions)
      findings_.error("step.query_sequence_length",
                      fmt::format("is {}, more than model.{} {}", length, sizes_->positions_name, sizes_->positions));
  }

  void check_values(int64_t queries, bool central) {
    if (mode() != "zo" && v_.text("step.objective") == "accuracy")
      findings_.error("step.objective", "\"accuracy\" has no gradient: it works with step.mode \"zo\" alone");
    const std::string transform = v_.text("step.scalar_transform");
    if ((transform == "normalise" || transform == "clip") && queries < 2)
      findings_.error("step.scalar_transform", fmt::format("\"{}\" needs at least 2 step.queries: one scalar has no deviation", transform));
    if (transform == "leave_one_out" && (queries < 2 || central))
      findings_.error("step.scalar_transform",
                      "\"leave_one_out\" is a baseline for step.estimator \"forward\" with at least 2 step.queries");
    if (v_.text("step.perturbation") == "low_rank") check_rank();
    if (v_.text("step.master_weights") == "none") {
      if (mode() != "zo") findings_.error("step.master_weights", "\"none\" works with step.mode \"zo\" alone: backprop needs fp32 masters");
      if (!v_.boolean("bf16.enabled") && !v_.boolean("fp16.enabled"))
        findings_.error("step.master_weights", "\"none\" is for 16-bit weights: enable bf16 or fp16");
    }
    if (mode() == "instruct" && v_.text("step.instruct.kind") == "energy" && v_.number("step.instruct.noise_scale") == 0 && queries > 1)
      findings_.error("step.instruct.noise_scale", "is 0: all directions of a step would be the same; give noise, or step.queries 1");
    if (mode() == "instruct" && v_.number("step.instruct.cosine") == 0)
      findings_.error("step.instruct.cosine", "is 0: the estimate divides by it; use step.mode \"zo\" for uninstructed directions");
    for (std::string_view value : {"cosine", "noise_scale"}) check_schedule(fmt::format("step.instruct.schedule.{}", value));
    const bool own = v_.text("step.bp_data") == "own", files = !v_.at("data.bp_train").empty();
    if (own && !files) findings_.error("step.bp_data", "\"own\" needs data.bp_train: name its files");
    if (!own && files) findings_.error("data.bp_train", "is given, and step.bp_data is not \"own\"");
  }

  void check_schedule(const std::string& block) {
    std::string missing, given;
    for (std::string_view name : {"start", "end", "threshold", "fall", "increment"}) {
      std::string& list = v_.has(fmt::format("{}.{}", block, name)) ? given : missing;
      list += fmt::format("{}{}", list.empty() ? "" : ", ", name);
    }
    if (given.empty()) return;
    if (!missing.empty()) return findings_.error(block, fmt::format("gives {} and lacks {}: a schedule needs all five", given, missing));
    const double start = v_.number(block + ".start"), end = v_.number(block + ".end"), increment = v_.number(block + ".increment");
    if (block.ends_with("cosine") && start * end == 0) findings_.error(block, "starts or ends at 0: the estimate divides by the cosine");
    if ((end - start) * increment <= 0)
      findings_.error(block + ".increment", fmt::format("is {}, which does not lead from start {} to end {}", increment, start, end));
  }

  // The rank of a direction is below that of every matrix: above it the two factors hold more than the matrix.
  void check_rank() {
    if (!sizes_) return;
    const int64_t rank = v_.integer("step.rank");
    const int64_t smallest = sizes_->vocabulary > 0 ? std::min(sizes_->smallest, sizes_->vocabulary) : sizes_->smallest;
    if (rank > smallest)
      findings_.error("step.rank", fmt::format("is {}, more than the smallest matrix has ({}): take at most that", rank, smallest));
  }

  // {"LABEL": "word", ...} or ["word", ...], two of them at least.
  void label_words() {
    const json& words = v_.at("data.label_words");
    const bool texts = std::all_of(words.begin(), words.end(), [](const json& word) { return word.is_string(); });
    if (!words.is_structured() || words.size() < 2 || !texts)
      findings_.error(
          "data.label_words",
          fmt::format("is {}; expected {{\"LABEL\": \"word\", ...}} or a list of words, one for each of two labels or more", shown(words)));
  }

  void task() {
    const bool prompted = v_.has("data.template"), bert = family() == "bert", classifies = bert || prompted;
    if (prompted && v_.text("data.template").empty()) findings_.error("data.template", "is empty; expected a text with {text} and {label}");
    if (prompted != v_.has("data.label_words"))
      findings_.error(prompted ? "data.template" : "data.label_words",
                      fmt::format("is given without {}: a prompt needs both", prompted ? "data.label_words" : "data.template"));
    if (v_.has("data.label_words")) label_words();
    if (!v_.has("model.task")) v_.set("model.task", classifies ? "classification" : "causal_lm", Origin::Derived);
    if (classifies && v_.text("model.task") != "classification")
      findings_.error("model.task", bert ? "is \"causal_lm\", and a BERT predicts no next token: use \"classification\""
                                         : "is \"causal_lm\", and data.template makes classes of the words: use \"classification\"");
    if (!classifies && v_.text("model.task") == "classification")
      findings_.error(
          "model.task",
          fmt::format("is \"classification\", and a {} predicts tokens: give data.template and data.label_words, or a BERT (model.path, "
                      "or model.family \"bert\")",
                      family()));
    for (std::string_view path : {"model.num_labels", "model.classifier_pooling"})
      if (v_.has(path) && bert && prompted) findings_.error(path, "is given, and data.label_words are the classes: take it out");
    if (!bert)
      for (std::string_view path :
           {"model.num_labels", "model.classifier_pooling", "model.hidden_dropout_prob", "model.attention_probs_dropout_prob"})
        if (v_.has(path)) findings_.error(path, fmt::format("is given, and a model of family \"{}\" has none: take it out", family()));
    if (classifies && v_.text("step.bp_data") == "split")
      findings_.error("step.bp_data",
                      "\"split\" does not work with classification: name other files for backprop (\"own\"), or use \"same\"");
  }

  void data_and_run() {
    if (sizes_) {
      derived("data.sequence_length", sizes_->positions);
      const int64_t length = v_.integer("data.sequence_length");
      if (length > sizes_->positions)
        findings_.error("data.sequence_length",
                        fmt::format("is {}, more than model.{} {}", length, sizes_->positions_name, sizes_->positions));
    }
    const std::string name = v_.text("run.name");
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      findings_.error("run.name", fmt::format("is {}; expected the name of one folder (run.output_dir is the path)", shown(name)));
    }
    for (std::string_view path : {"run.output_dir", "data.tokenizer"}) {
      if (v_.text(path).empty()) findings_.error(path, "is empty; expected a path");
    }
    if (integer_or("run.steps", 1) == 0) v_.erase("run.steps");
    if (v_.has("run.epochs") && v_.number("run.epochs") == 0) v_.erase("run.epochs");
    if (v_.has("run.steps") && v_.has("run.epochs")) {
      findings_.error(
          "run.epochs",
          fmt::format("is {}, and run.steps is {}: both say when the run ends; keep one (--set run.epochs=null takes this one out)",
                      v_.number("run.epochs"), v_.integer("run.steps")));
    } else if (!v_.has("run.steps") && !v_.has("run.epochs")) {
      v_.set("run.epochs", 1.0, Origin::Default);
      v_.find("run.epochs")->note = "neither run.steps nor run.epochs is given";
    }
    if (v_.boolean("run.keep_best") && v_.integer("run.eval_interval") == 0)
      findings_.error("run.keep_best", "is true, but nothing is evaluated: set run.eval_interval");
    if (v_.integer("run.eval_interval") > 0 && v_.at("data.eval").empty()) {
      findings_.error("run.eval_interval",
                      fmt::format("is {}, but data.eval names nothing to evaluate on", v_.integer("run.eval_interval")));
    }
    if (!v_.has("data.cache")) {
      derived("data.cache", fmt::format("{}/.cache", v_.text("run.output_dir")));
      v_.find("data.cache")->written = false;
    }
  }

  // Parameters that several optimizers have, each with a default of its own.
  void defaults_of_optimizer() {
    const std::string type = v_.text("optimizer.type");
    const auto set = [&](std::string_view name, json value) {
      const std::string path = fmt::format("optimizer.params.{}", name);
      if (has_word(find(path)->of, type) && !v_.has(path)) v_.set(path, std::move(value), Origin::Default);
    };
    set("eps", type == "MuDaMW" ? 1e-6 : 1e-8);
    set("momentum", type == "Muon" ? 0.95 : 0.0);
    set("nesterov", type == "Muon");
    for (const char* path : {"optimizer.params.muon_lr", "optimizer.params.adam_lr"})
      if (v_.has(path) && v_.number("optimizer.params.lr") == 0)
        findings_.error(path, "is a learning rate beside optimizer.params.lr 0, which a schedule scales: give lr a value above 0");
  }

  void optimizer_and_scheduler() {
    if (is_auto("optimizer.params.lr")) v_.set("optimizer.params.lr", kAutoLearningRate, Origin::Auto);
    defaults_of_optimizer();
    if (!v_.has("scheduler.type")) return;
    const std::string type = v_.text("scheduler.type");
    const auto path = [](std::string_view name) { return fmt::format("scheduler.params.{}", name); };
    if (type == "WarmupLR" || is_auto(path("warmup_max_lr")))
      derived(path("warmup_max_lr"), v_.number("optimizer.params.lr"), "optimizer.params.lr");
    if (type == "WarmupDecayLR" && !v_.has(path("warmup_max_lr"))) v_.set(path("warmup_max_lr"), 0.001, Origin::Default);
    if (type.starts_with("Warmup") || type == "Cosine") {
      if (!v_.has(path("warmup_num_steps")))
        v_.set(path("warmup_num_steps"),
               is_auto(path("warmup_num_steps")) ? kAutoWarmupSteps
               : type == "Cosine"                ? 0
                                                 : 1000,
               Origin::Default);
    }
    const Key* total = find(path("total_num_steps"));
    if (has_word(total->of, type)) {
      if (v_.has("run.steps")) derived(path("total_num_steps"), v_.integer("run.steps"), "run.steps");
      const int64_t warmup = v_.integer(path("warmup_num_steps"));
      if (v_.has(path("total_num_steps")) && v_.integer(path("total_num_steps")) < warmup) {
        findings_.warn(fmt::format("scheduler.params.total_num_steps {} is less than warmup_num_steps {}: the warm-up never ends",
                                   v_.integer(path("total_num_steps")), warmup));
      }
    }
    if (type == "OneCycle") {
      for (std::string_view name : {"cycle_min_lr", "cycle_max_lr"}) {
        if (!v_.has(path(name))) findings_.error(path(name), "is missing: OneCycle has no default for it");
      }
      derived(path("cycle_second_step_size"), v_.integer(path("cycle_first_step_size")));
      derived(path("cycle_second_stair_count"), v_.integer(path("cycle_first_stair_count")));
    }
  }

  void precision() {
    const bool fp16 = v_.boolean("fp16.enabled");
    if (fp16 && v_.boolean("bf16.enabled"))
      findings_.error("fp16.enabled", "and bf16.enabled are both true: compute has one type; turn one off");
    if (fp16 && v_.number("fp16.loss_scale") == 0) {
      const auto power = static_cast<int>(v_.integer("fp16.initial_scale_power"));
      const double smallest = v_.number("fp16.min_loss_scale");
      if (std::exp2(power) < smallest) {
        findings_.error("fp16.initial_scale_power", fmt::format("is {}, so that the loss scale starts at {}, below fp16.min_loss_scale {}",
                                                                power, std::exp2(power), smallest));
      }
    }
  }

  void sharding() {
    const int64_t stage = v_.integer("zero_optimization.stage");
    derived("zero_optimization.overlap_comm", stage == 3);
    bool any = false;
    for (const auto& [path, value] : v_.all()) {
      any = any || (path.starts_with("activation_checkpointing.") && value.value == json(true));
    }
    derived("activation_checkpointing.number_checkpoints", any ? -1 : 0);
  }

  bool holds(Context context) const {
    const int64_t stage = v_.integer("zero_optimization.stage");
    switch (context) {
      case Context::StageBelow1:
        return stage < 1;
      case Context::StageBelow3:
        return stage < 3;
      case Context::StageNot1Or2:
        return stage != 1 && stage != 2;
      case Context::Fp16Off:
        return !v_.boolean("fp16.enabled");
      case Context::StaticLossScale:
        return v_.boolean("fp16.enabled") && v_.number("fp16.loss_scale") != 0;
      case Context::CsvMonitorOff:
        return !v_.boolean("csv_monitor.enabled");
      case Context::CommsLoggerOff:
        return !v_.boolean("comms_logger.enabled");
      case Context::FlopsProfilerOff:
        return !v_.boolean("flops_profiler.enabled");
      case Context::PrescaledGradients:
        return v_.boolean("prescale_gradients");
      case Context::AdamWGiven:
        return v_.text("optimizer.type") == "AdamW";
      case Context::SgdScheduled:
        return v_.text("optimizer.type") == "SGD";
      case Context::FirstOrderOnly:
        return mode() == "fo";
      case Context::NoIntervals:
        return mode() != "calibrate" && mode() != "instruct";
      case Context::NotAlternating:
        return mode() != "alternating";
      case Context::NotInstructed:
        return mode() != "instruct";
      case Context::NotLowRank:
        return v_.text("step.perturbation") != "low_rank";
      case Context::NotClipped:
        return v_.text("step.scalar_transform") != "clip";
    }
    return false;
  }

  void contexts() {
    for (const ContextRule& rule : context_rules()) {
      if (!holds(rule.when)) continue;
      std::string given;
      for (std::string_view path : split_words(rule.keys)) {
        Value* value = v_.find(path);
        if (!value) continue;
        value->effective = false;
        value->note = fmt::format("without effect {}", name_of(rule.when));
        if (value->origin == Origin::Given) given += fmt::format("{}{}", given.empty() ? "" : ", ", path);
      }
      if (!given.empty()) {
        findings_.warn(fmt::format("{} {} no effect {}: {}", given, given.find(',') == std::string::npos ? "has" : "have",
                                   name_of(rule.when), rule.reason));
      }
    }
  }

  Values& v_;
  int world_;
  Findings& findings_;
  std::set<std::string> auto_;
  std::optional<ModelSizes> sizes_;
};

}  // namespace

void derive(Values& values, int world, Findings& findings) { Deriver(values, world, findings).run(); }

}  // namespace zerostep::schema
