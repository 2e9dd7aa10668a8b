#pragma once
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep::schema {

constexpr int64_t kLargestBatch = 1000000000;

// What a key does in this version. A key may stand in one list by itself and in another in a context (`ContextRule`).
enum class List : uint8_t {
  Honoured,  // it has an effect
  Accepted,  // understood, without effect: a warning says why
  Refused    // an error says why and what to use instead
};
std::string_view name_of(List list);

enum class Kind : uint8_t { Bool, Integer, Number, Text, Choice, Texts, Pair, Sources, Anything };

struct Type {
  Kind kind = Kind::Anything;
  int64_t low = std::numeric_limits<int64_t>::min(), high = std::numeric_limits<int64_t>::max();         // Integer
  double min = -std::numeric_limits<double>::infinity(), max = std::numeric_limits<double>::infinity();  // Number, Pair
  bool open_min = false, open_max = false;                                                               // the bound itself is out
  std::string_view choices{};                                                                            // Choice: "a|b|c"
  std::string_view later{};   // Choice: known, but not in this version
  std::string_view others{};  // Choice: known of other tools, never here
  std::string_view word{};    // Integer: a text that is taken too
  bool nullable = false;      // null means "not given"
  bool is_path = false;       // Text, Texts, Sources: of files or folders
};

// Every known key, as data.
struct Key {
  std::string_view path;  // "zero_optimization.stage"; "optimizer.groups[].patterns" for the objects of a list
  List list = List::Honoured;
  Type type{};
  std::string_view value{};     // the default, as JSON; empty: none, or derived from other values
  std::string_view meaning{};   // Honoured: what it does. Accepted, Refused: why, and what to use
  std::string_view harmless{};  // Refused: a JSON list of values that ask for nothing, or "off": a block that is not enabled
  // Parameters of an optimizer or a scheduler: of which types ("Adam|AdamW"); sizes of a model: of which families. Empty: of all.
  std::string_view of{};
};

std::span<const Key> keys();
const Key* find(std::string_view path);
// Is it a block: does any key lie below it?
bool is_block(std::string_view path);
// Is it a key, a block or a list of blocks, by its own name or by another spelling?
bool is_known(std::string_view path);
// Whether a key says what is printed, drawn, written and kept of a run, or when it ends for want of an answer: nothing of what it computes.
bool is_of_watching(std::string_view path);
// Names that may stand in a block ("" is the top level), aliases included.
std::vector<std::string_view> names_in(std::string_view block);
// Where a name stands anywhere in the schema ("" when nowhere).
std::string_view path_of_name(std::string_view name);
bool has_word(std::string_view words, std::string_view word);
std::vector<std::string_view> split_words(std::string_view words);  // "a|b" -> {a, b}

// Another spelling of a key.
struct Alias {
  std::string_view from, to;
  bool deprecated = false;  // says a warning
  bool is_switch = false;   // a bool that stands for {"device": "cpu"} or {"device": "none"}
};
std::span<const Alias> aliases();

// Situations in which a key belongs to another list than by itself.
enum class Context : uint8_t {
  StageBelow1,
  StageBelow3,
  StageNot1Or2,
  Fp16Off,
  Bf16Off,
  StaticLossScale,
  CsvMonitorOff,
  TensorBoardOff,
  CommsLoggerOff,
  FlopsProfilerOff,
  PrescaledGradients,
  AdamWGiven,
  SgdScheduled,
  FirstOrderOnly,
  NoIntervals,
  NotAlternating,
  NotInstructed,
  NotLowRank,
  NotClipped,
  ForwardOnly,  // a value that asks for nothing, or the default, is not warned of
  Instructed,
  ParametersNotOffloaded,
  ParametersNotInFiles,
  StateNotOffloaded,
  StateNotInFiles,
  NothingInFiles,
  NoRowsWithFields,  // rows are to be skipped, and no file has rows that can lack a field
  NotSplit           // data.train is not shared out between backprop and queries
};
std::string_view name_of(Context context);
struct ContextRule {
  std::string_view keys;  // "a.b|a.c|a.d*": paths; a star at the end stands for any rest
  Context when;
  std::string_view reason;  // the keys have no effect then
};
std::span<const ContextRule> context_rules();

// The sections of the table, one a source file.
void add_training_keys(std::vector<Key>& keys);
void add_zero_keys(std::vector<Key>& keys);
void add_own_keys(std::vector<Key>& keys);
void add_source_keys(std::vector<Key>& keys);
void add_foreign_keys(std::vector<Key>& keys);

// Short names of lists and types, for the tables.
constexpr List H = List::Honoured, A = List::Accepted, R = List::Refused;
constexpr Type boolean() { return {.kind = Kind::Bool}; }
constexpr Type integer(int64_t low, int64_t high = std::numeric_limits<int64_t>::max()) {
  return {.kind = Kind::Integer, .low = low, .high = high};
}
constexpr Type number(double min, double max = std::numeric_limits<double>::infinity()) {
  return {.kind = Kind::Number, .min = min, .max = max};
}
constexpr Type number_above(double min) { return {.kind = Kind::Number, .min = min, .open_min = true}; }
constexpr Type any_number() { return {.kind = Kind::Number}; }
constexpr Type share() { return {.kind = Kind::Number, .min = 0, .max = 1, .open_max = true}; }
constexpr Type share_between() { return {.kind = Kind::Number, .min = 0, .max = 1, .open_min = true, .open_max = true}; }
constexpr Type text() { return {.kind = Kind::Text}; }
constexpr Type texts() { return {.kind = Kind::Texts}; }
constexpr Type pair(double min, double below) { return {.kind = Kind::Pair, .min = min, .max = below, .open_max = true}; }
constexpr Type choice(std::string_view choices, std::string_view later = {}, std::string_view others = {}) {
  return {.kind = Kind::Choice, .choices = choices, .later = later, .others = others};
}
constexpr Type anything() { return {}; }
constexpr Type or_null(Type type) {
  type.nullable = true;
  return type;
}
constexpr Type file_name() { return {.kind = Kind::Text, .is_path = true}; }
constexpr Type file_names() { return {.kind = Kind::Texts, .is_path = true}; }
constexpr Type integer_or(std::string_view word, int64_t low) { return {.kind = Kind::Integer, .low = low, .word = word}; }
// A path or glob, a name of the catalogue, an object whose keys are those of "<path>[]", or a list of these.
constexpr Type sources() { return {.kind = Kind::Sources, .is_path = true}; }

// "an integer from 0 to 3", "true or false", "one of a, b"...
std::string describe(const Type& type);

}  // namespace zerostep::schema
