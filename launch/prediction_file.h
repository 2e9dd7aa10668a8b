#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unfinished_file.h"

namespace zerostep {

// The table that `predict` writes: a row for each text with its likeliest class, the class's probability, the margin by which that leads
// the next one, and the probabilities of all classes; .tsv, .csv or .jsonl by its ending. It appears complete or not at all: rows go to
// NAME.partial, which belongs to one process and is removed where publish() is not reached.
class PredictionFile {
 public:
  // InputError for another ending, where something lies that is no such table, and while another process writes it; RunError, naming the
  // path, where it cannot be written.
  PredictionFile(const std::string& path, std::vector<std::string> classes);
  PredictionFile(const PredictionFile&) = delete;
  PredictionFile& operator=(const PredictionFile&) = delete;

  void add(std::span<const float> probabilities);
  void publish();

 private:
  void write(std::string_view text);
  void flush();

  enum class Kind : uint8_t { Tabs, Commas, JsonLines } kind_;
  std::vector<std::string> classes_;
  std::optional<UnfinishedFile> file_;
  std::string buffer_;
};

}  // namespace zerostep
