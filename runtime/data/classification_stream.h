#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/data_stream.h"
#include "runtime/data/label_names.h"
#include "runtime/data/prompt_template.h"

namespace zerostep {

// The `data` block for one set of labelled texts: sources of .tsv, .csv and .jsonl files. sequence_length: of the longest sample, with what
// the tokenizer and the prompt put around it.
struct ClassificationOptions : DataOptions {
  std::string label_field = "label";             // the column or field of the label
  int64_t num_labels = 0;                        // 0: as many as the data has
  std::vector<std::string> class_names;          // of the model, by index: where all labels are among them they are numbered so
  std::optional<int32_t> padding;                // fills up shorter samples; nothing: the tokenizer's
  std::optional<LabelNames> labels;              // given (an evaluation takes those of the training data): any other label is an InputError
  std::shared_ptr<const PromptTemplate> prompt;  // samples are prompts
};

// Labelled texts as a stream of global batches: a pure function of (files, tokenizer, options, global batch size, step), the same for every
// world size.
//
// Epoch e has the order of the permutation keyed by (seed, e). Of the batches that lie within one epoch, runs of 64 are put in order of
// length and cut anew, and the order of the batches in a run is again a permutation: a batch has samples of like lengths, every sample
// comes once an epoch, and when it comes is still random. A batch that begins in one epoch and ends in the next is left as it is. Without
// shuffle the order is the files' and nothing is sorted.
//
// A Batch has B samples padded at the end to the longest of them: tokens [B, T], mask [B, T] (undefined where nothing is padded), labels
// [B, 1], the classes. With a prompt the rows are PromptTemplate::rows() of each sample, and word_positions say where the words are.
class ClassificationStream : public DataStream {
 public:
  // Tokenizes into the cache unless it is there; as DataStream::open otherwise. InputError also: what read_table and LabelNames say, a
  // label outside those given, a sample without any token.
  static std::unique_ptr<ClassificationStream> open(const ClassificationOptions& options, const Tokenizer& tokenizer);

  virtual const LabelNames& labels() const = 0;
  virtual int64_t num_truncated() const = 0;  // samples cut to sequence_length
  virtual int64_t count(int64_t label) const = 0;
};

}  // namespace zerostep
