#pragma once
#include <functional>
#include <memory>
#include <string>

#include "models/unit.h"

namespace zerostep {

// Where the first values of parameters come from. Const and safe to call from several threads.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  // Values [begin, begin + count) of a parameter, row-major.
  virtual void read(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const = 0;
};
// initial_values() of a seed.
std::unique_ptr<ParameterSource> make_initial_values(uint64_t seed);

// A model in a Hugging Face directory: config.json beside model.safetensors (or several files with model.safetensors.index.json), whose
// tensors may lack the prefix of the model without its head ("transformer.", "model.", "bert."). InputError when it is missing, damaged,
// incomplete, of other shapes than config.json says or of another family.
struct HuggingFaceModel {
  std::unique_ptr<ModelDefinition> model;
  std::unique_ptr<ParameterSource> values;
  std::vector<std::string> untrained;  // parameters of a classifier's head that the files lack: their values are the fresh head's
};
// fresh_head: where a classifier's head comes from as far as the files lack it, as those of a bare encoder do; nullptr: they may not.
HuggingFaceModel open_hugging_face_model(const std::string& directory, std::unique_ptr<ParameterSource> fresh_head = nullptr);

// The values alone, for a model that may have a head of its own (other classes, another pooling). `untrained`, where it is given, gets the
// names as above.
std::unique_ptr<ParameterSource> open_hugging_face_values(const std::string& directory, const ModelDefinition& model,
                                                          std::unique_ptr<ParameterSource> fresh_head,
                                                          std::vector<std::string>* untrained = nullptr);

// Writes config.json and model.safetensors (fp32), one parameter at a time; a tied weight once. Above `file_bytes` several files with
// model.safetensors.index.json, as transformers does. Each file appears complete or not at all. The directory exists.
inline constexpr int64_t kLargestFileBytes = 5'000'000'000;
void write_hugging_face_model(const std::string& directory, const ModelDefinition& model,
                              const std::function<void(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out)>& read,
                              int64_t file_bytes = kLargestFileBytes);

}  // namespace zerostep
