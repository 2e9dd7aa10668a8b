#include "models/hugging_face.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/unfinished_file.h"
#include "models/safetensors.h"

namespace zerostep {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kChunkElements = 1 << 20;

// In the order of the model, as many as fit a file; one at least.
std::vector<std::vector<const ParameterInfo*>> files_of(const ModelDefinition& model, const HuggingFaceFiles& how) {
  std::vector<std::vector<const ParameterInfo*>> files(1);
  int64_t bytes = 0;
  for (const UnitInfo& unit : model.units()) {
    for (const ParameterInfo& parameter : unit.parameters) {
      const int64_t more = num_bytes(parameter.num_elements(), how.type);
      if (!files.back().empty() && bytes + more > how.file_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      files.back().push_back(&parameter);
      bytes += more;
    }
  }
  return files;
}

// A finite value that is an infinite one in fp16: half a step beyond its largest.
bool exceeds_fp16(float value) { return std::isfinite(value) && std::abs(value) >= 65520.0f; }

void check_range(const std::string& path, const ParameterInfo& parameter, const std::vector<float>& values, int64_t count) {
  const auto found = std::find_if(values.begin(), values.begin() + count, exceeds_fp16);
  if (found == values.begin() + count) return;
  fail_run("{}: {} holds {}, and fp16 ends at 65504: write bf16, whose range is that of fp32, or fp32", path, parameter.name, *found);
}

void write_parameters(const std::string& path, const std::vector<const ParameterInfo*>& parameters, const ParameterReader& read,
                      DType type) {
  std::vector<SafetensorsWriter::Tensor> tensors;
  for (const ParameterInfo* p : parameters) tensors.push_back({p->name, type, p->shape});
  SafetensorsWriter writer(path, std::move(tensors));
  std::vector<float> values(kChunkElements);
  for (const ParameterInfo* p : parameters) {
    for (int64_t begin = 0; begin < p->num_elements(); begin += kChunkElements) {
      const int64_t count = std::min(kChunkElements, p->num_elements() - begin);
      read(*p, begin, count, values.data());
      if (type == DType::F16) check_range(path, *p, values, count);
      writer.append(values.data(), count);
    }
  }
  writer.finish();
}

void write_text(const fs::path& path, const std::string& text) {
  const std::string partial = unfinished_name(path.string());
  std::ofstream out(partial, std::ios::trunc);
  out << text;
  out.close();
  if (!out) fail_run("cannot write {}", partial);
  std::error_code error;
  fs::rename(partial, path, error);
  if (error) fail_run("cannot rename {} to {}: {}", partial, path.string(), error.message());
}

std::string config_with_type(const ModelDefinition& model, DType type) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(model.hugging_face_config());
  config["torch_dtype"] = type == DType::F32 ? "float32" : type == DType::BF16 ? "bfloat16" : "float16";
  return config.dump(2) + "\n";
}

}  // namespace

void write_hugging_face_model(const std::string& directory, const ModelDefinition& model, const ParameterReader& read,
                              const HuggingFaceFiles& how) {
  const fs::path folder(directory), single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  const std::vector<std::vector<const ParameterInfo*>> files = files_of(model, how);
  const auto path_of = [&](size_t file) {
    return files.size() == 1 ? single : folder / fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, files.size());
  };
  nlohmann::ordered_json weight_map;
  int64_t bytes = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    write_parameters(path_of(f).string(), files[f], read, how.type);
    for (const ParameterInfo* p : files[f]) {
      weight_map[p->name] = path_of(f).filename().string();
      bytes += num_bytes(p->num_elements(), how.type);
    }
  }
  if (files.size() > 1)
    write_text(index, nlohmann::ordered_json{{"metadata", {{"total_size", bytes}}}, {"weight_map", weight_map}}.dump(2) + "\n");
  // What a former model of another size left would be read instead.
  std::error_code ignored;
  fs::remove(files.size() > 1 ? single : index, ignored);
  write_text(folder / "config.json", config_with_type(model, how.type));
}

}  // namespace zerostep
