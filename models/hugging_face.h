#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"

namespace zerostep {

// Where a classifier's head comes from as far as the files lack it, as those of a bare encoder do; or whatever they hold.
struct FreshHead {
  ParameterReader values = nullptr;  // nullptr: the files have to hold it
  bool replaces = false;
};

// The values of a model in a Hugging Face directory, and what its user has to know of them.
struct HuggingFaceValues {
  ParameterReader values;              // holds the files open; safe to call from several threads
  std::vector<std::string> untrained;  // parameters of a classifier's head whose values are the fresh head's
  std::vector<std::string> notes;      // what the directory holds and the model does not use, a sentence each
};
// For a model that may have a head of its own (other classes, another pooling) beside what config.json says. Several files are told by
// model.safetensors.index.json. Tensors may lack the prefix of the model without its head ("transformer.", "model.", "bert."), and a tied
// one may stand under either of its names. InputError when it is missing, damaged, incomplete or of other shapes, or when the two tensors
// of a tied parameter differ.
HuggingFaceValues open_hugging_face_values(const std::string& directory, const ModelDefinition& model, FreshHead fresh_head = {});

// The model that config.json describes, with its values. InputError also where it is of another family.
struct HuggingFaceModel : HuggingFaceValues {
  std::unique_ptr<ModelDefinition> model;
};
HuggingFaceModel open_hugging_face_model(const std::string& directory, FreshHead fresh_head = {});

// Writes config.json and model.safetensors, one parameter at a time; a tied weight once. Above `file_bytes` several files with
// model.safetensors.index.json, as transformers does. Each file appears complete or not at all. The directory exists.
inline constexpr int64_t kLargestFileBytes = 5'000'000'000;
struct HuggingFaceFiles {
  // fp32, bf16 or fp16, to which values are rounded to nearest, of two as near to the even one. RunError where a finite value becomes
  // infinite: fp16 ends at 65504.
  DType type = DType::F32;
  int64_t file_bytes = kLargestFileBytes;
};
void write_hugging_face_model(const std::string& directory, const ModelDefinition& model, const ParameterReader& read,
                              const HuggingFaceFiles& files = {});

}  // namespace zerostep
