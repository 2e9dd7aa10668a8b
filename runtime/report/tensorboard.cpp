#include "runtime/report/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "base/host_name.h"
#include "runtime/report/record_file.h"
#include "runtime/report/tensorboard.pb.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kBegin = "events.out.tfevents.", kEnd = ".zerostep";
constexpr const char* kExperiment = "_hparams_/experiment";
constexpr const char* kSessionStart = "_hparams_/session_start_info";
constexpr const char* kSessionEnd = "_hparams_/session_end_info";

double seconds_since_1970() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// Those that runs have written there, in the order in which TensorBoard reads them.
std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> out;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kBegin) && name.ends_with(kEnd) && entry.is_regular_file()) out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Of an event file: when it was begun.
int64_t time_of(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  int64_t seconds = 0;
  std::from_chars(name.data() + kBegin.size(), name.data() + name.size(), seconds);
  return seconds;
}

// Whether a run that goes on keeps this event. `has_scalars`: whether any of those that it keeps has values.
bool is_kept(const TensorBoard::Options::Kept& kept, std::string_view record, bool& has_scalars) {
  tensorboard::Event event;
  if (!event.ParseFromArray(record.data(), static_cast<int>(record.size()))) return false;
  if (event.summary().value().empty()) return true;
  const tensorboard::Summary::Value& first = event.summary().value(0);
  if (first.tag() == kSessionEnd) return false;
  if (!first.has_simple_value()) return true;
  const bool on_samples = first.tag().starts_with(TensorBoard::kOnSamples);
  if (on_samples ? event.step() > kept.samples : event.step() >= kept.steps) return false;
  has_scalars = true;
  return true;
}

void set(tensorboard::Value& out, const HyperParameter& parameter) {
  if (const auto* text = std::get_if<std::string>(&parameter.value)) out.set_text(*text);
  if (const auto* boolean = std::get_if<bool>(&parameter.value)) out.set_boolean(*boolean);
  if (const auto* number = std::get_if<double>(&parameter.value)) out.set_number(*number);
}

tensorboard::Type type_of(HyperParameter::Type type) {
  if (type == HyperParameter::Type::Number) return tensorboard::FLOAT64;
  return type == HyperParameter::Type::Boolean ? tensorboard::BOOL : tensorboard::STRING;
}

tensorboard::HyperParameters experiment_of(const std::vector<HyperParameter>& parameters) {
  tensorboard::HyperParameters out;
  tensorboard::Experiment& experiment = *out.mutable_experiment();
  experiment.set_time_created(seconds_since_1970());
  for (const HyperParameter& parameter : parameters) {
    tensorboard::Column& column = *experiment.add_columns();
    column.set_name(parameter.name);
    column.set_type(type_of(parameter.type));
    column.set_differs(parameter.leads);  // TensorBoard shows these columns first
    for (const std::string& choice : parameter.choices) column.mutable_choices()->add_values()->set_text(choice);
    if (parameter.type == HyperParameter::Type::Boolean)
      for (const bool choice : {false, true}) column.mutable_choices()->add_values()->set_boolean(choice);
  }
  for (const char* metric : {"loss", "eval_loss", "eval_accuracy"}) {
    tensorboard::Metric& column = *experiment.add_metrics();
    column.mutable_name()->set_tag(std::string(TensorBoard::kOnSteps) + metric);
    column.set_display_name(metric);
  }
  return out;
}

tensorboard::HyperParameters session_of(const std::vector<HyperParameter>& parameters) {
  tensorboard::HyperParameters out;
  tensorboard::SessionStart& session = *out.mutable_session_start();
  session.set_start_time(seconds_since_1970());
  for (const HyperParameter& parameter : parameters) {
    if (std::holds_alternative<std::monostate>(parameter.value)) continue;
    tensorboard::SessionStart::Entry& entry = *session.add_entries();
    entry.set_name(parameter.name);
    set(*entry.mutable_value(), parameter);
  }
  return out;
}

tensorboard::Event event_at(int64_t step) {
  tensorboard::Event event;
  event.set_wall_time(seconds_since_1970());
  event.set_step(step);
  return event;
}

tensorboard::Event event_of(const char* tag, const tensorboard::HyperParameters& content) {
  tensorboard::Event event = event_at(0);
  tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(tag);
  value.mutable_metadata()->mutable_plug_in()->set_name("hparams");
  value.mutable_metadata()->mutable_plug_in()->set_content(content.SerializeAsString());
  return event;
}

}  // namespace

struct TensorBoard::Events {
  tensorboard::Event scalars;
  std::string tag, record;

  void begin(int64_t step) {
    scalars.Clear();
    scalars.set_wall_time(seconds_since_1970());
    scalars.set_step(step);
  }
  void add(const char* prefix, const Scalar& scalar) {
    tensorboard::Summary::Value& value = *scalars.mutable_summary()->add_value();
    tag.assign(prefix).append(scalar.first);
    value.set_tag(tag);
    value.set_simple_value(static_cast<float>(scalar.second));
  }
};

std::vector<fs::path> TensorBoard::events_in(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return {};
  const std::vector<std::string> files = event_files(folder);
  return {files.begin(), files.end()};
}

TensorBoard::TensorBoard(Options options)
    : options_(std::move(options)), events_(std::make_unique<Events>()), flushed_(std::chrono::steady_clock::now()), stepped_(flushed_) {
  try {
    open();
    write_hyper_parameters();
  } catch (const std::exception& error) {
    give_up(error.what());
  }
}

void TensorBoard::open() {
  std::error_code error;
  fs::create_directories(options_.folder, error);
  if (error) fail_run("cannot make the folder {}: {}", options_.folder, error.message());
  auto begun = static_cast<int64_t>(seconds_since_1970());
  for (const std::string& path : event_files(options_.folder)) {
    bool has_scalars = false;
    if (options_.kept) {
      begun = std::max(begun, time_of(path) + 1);  // TensorBoard reads files by name: in this order too where a clock was set back
      keep_records(path, [&](std::string_view record) { return is_kept(*options_.kept, record, has_scalars); });
    }
    if (!has_scalars) fs::remove(path);
  }
  path_ = fmt::format("{}/{}{:010}.{}.{}{}", options_.folder, kBegin, begun, host_name(), ::getpid(), kEnd);
  file_ = OutputFile(path_, OutputFile::Mode::Truncate);
}

void TensorBoard::write_hyper_parameters() {
  tensorboard::Event first = event_at(0);
  first.set_file_version("brain.Event:2");
  first.mutable_source_metadata()->set_writer("zerostep");
  append(first);
  append(event_of(kExperiment, experiment_of(options_.hyper_parameters)));
  append(event_of(kSessionStart, session_of(options_.hyper_parameters)));
  flush();
}

template <class Message>
void TensorBoard::append(const Message& event) {
  event.SerializeToString(&events_->record);
  append_record(buffer_, events_->record);
}

void TensorBoard::give_up(const std::string& why) {
  if (file_.is_open()) {  // a record that was written in part is none
    file_ = OutputFile();
    std::error_code ignored;
    if (fs::is_regular_file(path_, ignored)) fs::resize_file(path_, bytes_written_, ignored);
  }
  buffer_ = {};
  options_.warn(fmt::format("tensorboard: {}. The run goes on, and nothing more is written for TensorBoard", why));
}

void TensorBoard::flush() {
  flushed_ = std::chrono::steady_clock::now();
  if (!file_.is_open() || buffer_.empty()) return;
  try {
    file_.write(buffer_);
    bytes_written_ += buffer_.size();
    buffer_.clear();
  } catch (const RunError& error) {
    give_up(error.what());
  }
}

// The next step may take as long as this one did.
void TensorBoard::flush_if_due() {
  const auto now = std::chrono::steady_clock::now(), before = std::exchange(stepped_, now);
  if ((now - flushed_) + (now - before) >= options_.longest_wait) flush();
}

void TensorBoard::write_on_samples(int64_t samples, std::span<const Scalar> scalars) {
  if (!file_.is_open() || scalars.empty()) return;
  events_->begin(samples);
  for (const Scalar& scalar : scalars) events_->add("", scalar);
  append(events_->scalars);
}

void TensorBoard::write_on_steps(int64_t step, std::span<const Scalar> scalars) {
  if (!file_.is_open() || scalars.empty()) return;
  events_->begin(step);
  for (const Scalar& scalar : scalars) events_->add(kOnSteps, scalar);
  append(events_->scalars);
  flush_if_due();
}

void TensorBoard::end(End how) {
  ended_ = true;
  if (file_.is_open() && how != End::Stopped) {
    tensorboard::HyperParameters content;
    content.mutable_session_end()->set_end_time(seconds_since_1970());
    content.mutable_session_end()->set_status(how == End::Done ? tensorboard::SessionEnd::SUCCESS : tensorboard::SessionEnd::FAILURE);
    append(event_of(kSessionEnd, content));
  }
  flush();
}

TensorBoard::~TensorBoard() {
  try {
    if (!ended_) end(End::Failed);
  } catch (const std::exception&) {  // of the warning: the run has failed already
  }
}

}  // namespace zerostep
