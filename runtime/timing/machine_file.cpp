#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest_name.h"
#include "offload/disk.h"
#include "runtime/config/document.h"
#include "runtime/timing/machine.h"

namespace zerostep {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::array kTypes{DType::F32, DType::BF16, DType::F16};

template <typename Fields, typename AnyLink>
void link_fields(Fields& fields, const char* key, AnyLink& link, bool needed) {
  fields.block(key, needed, link.bytes_per_second > 0, [&](auto& f) {
    f.figure("latency_us", link.latency_seconds, 1e-6);
    f.figure("gb_per_s", link.bytes_per_second, 1e9);
  });
}

// The keys of a machine file, in their order: `fields` reads or writes each. Where one is not needed it may be missing, which is 0.
template <typename Fields, typename AnyMachine>
void machine_fields(Fields& fields, AnyMachine& m) {
  fields.text("name", m.name);
  fields.count("ranks_per_host", m.ranks_per_host);
  fields.count("threads_per_rank", m.threads_per_rank);
  fields.flag("lanes_share_cores", m.lanes_share_cores);
  fields.figure("cores_per_rank", m.cores_per_rank, 1);
  fields.flag("host_is_device", m.host_is_device);
  fields.block("capacity", false, true, [&](auto& f) {
    f.count("device_bytes", m.device_bytes, false);
    f.count("host_bytes", m.host_bytes, false);
    f.count("file_bytes", m.file_bytes, false);
  });
  fields.list("gemm", m.gemm, [](auto& f, auto& rate) {
    f.type("type", rate.type);
    f.count("rows", rate.rows);
    f.count("width", rate.width);
    f.figure("tflops", rate.flops_per_second, 1e12);
  });
  fields.list("elementwise", m.elementwise, [](auto& f, auto& rate) {
    f.type("type", rate.type);
    f.figure("gb_per_s", rate.bytes_per_second, 1e9);
    f.figure("attention_tflops", rate.attention_flops_per_second, 1e12, false);
  });
  fields.figure("operation_us", m.operation_seconds, 1e-6);
  fields.block("memory", true, true, [&](auto& f) { f.figure("device_gb_per_s", m.memory_bytes_per_second, 1e9); });
  fields.figure("noise_gelements_per_s", m.noise_elements_per_second, 1e9);
  fields.block("update", true, true, [&](auto& f) {
    f.figure("device_gb_per_s", m.update_bytes_per_second, 1e9);
    f.figure("host_gb_per_s", m.host_update_bytes_per_second, 1e9);
  });
  const bool has_peers = m.ranks_per_host > 1, copies = !m.host_is_device;
  fields.block("links", has_peers || copies, true, [&](auto& f) {
    link_fields(f, "host_to_device", m.host_to_device, copies);
    link_fields(f, "device_to_host", m.device_to_host, copies);
    link_fields(f, "file_read", m.file_read, false);
    link_fields(f, "file_write", m.file_write, false);
    link_fields(f, "gather_in_host", m.gather_in_host, has_peers);
    link_fields(f, "reduce_in_host", m.reduce_in_host, has_peers);
    link_fields(f, "gather_across_hosts", m.gather_across_hosts, false);
    link_fields(f, "reduce_across_hosts", m.reduce_across_hosts, false);
  });
  fields.figure("agreement_us", m.agreement_seconds, 1e-6, has_peers);
}

// Reads the keys of one object and refuses those that it does not know.
class Reader {
 public:
  Reader(const schema::Document& document, const json& object, std::string path)
      : document_(document), object_(object), path_(std::move(path)) {
    if (!object.is_object()) fail(path_, object, "an object, { ... }");
  }

  void text(const char* key, std::string& value) {
    const json* found = find(key, true);
    if (found == nullptr) return;
    if (found->is_string()) value = found->get<std::string>();
    if (!found->is_string() || value.empty()) fail(at(key), *found, "a text");
  }
  void flag(const char* key, bool& value) {
    const json* found = find(key, true);
    if (found == nullptr) return;
    if (!found->is_boolean()) fail(at(key), *found, "true or false");
    value = found->get<bool>();
  }
  template <typename Integer>
  void count(const char* key, Integer& value, bool needed = true) {
    const json* found = find(key, needed);
    if (found == nullptr) return;
    const double number = found->is_number() ? found->get<double>() : 0;
    if (number < 1 || number != std::floor(number) || number > static_cast<double>(std::numeric_limits<Integer>::max()) / 2)
      fail(at(key), *found, "a whole number above 0");
    value = static_cast<Integer>(number);
  }
  void figure(const char* key, double& value, double unit, bool needed = true) {
    const json* found = find(key, needed);
    if (found == nullptr) return;
    if (!found->is_number() || found->get<double>() <= 0) fail(at(key), *found, "a number above 0");
    value = found->get<double>() * unit;
  }
  void type(const char* key, DType& value) {
    const json* found = find(key, true);
    if (found == nullptr) return;
    const auto* const known = std::find_if(kTypes.begin(), kTypes.end(), [&](DType t) { return *found == name_of(t); });
    if (known == kTypes.end()) fail(at(key), *found, "\"fp32\", \"bf16\" or \"fp16\"");
    value = *known;
  }
  void block(const char* key, bool needed, bool, const std::function<void(Reader&)>& read) {
    const json* found = find(key, needed);
    if (found == nullptr) return;
    Reader fields(document_, *found, at(key));
    read(fields);
    fields.end();
  }
  template <typename Entry, typename Read>
  void list(const char* key, std::vector<Entry>& entries, const Read& read) {
    const json* found = find(key, true);
    if (found == nullptr) return;
    if (!found->is_array()) fail(at(key), *found, "a list, [ ... ]");
    for (size_t i = 0; i < found->size(); ++i) {
      Reader fields(document_, (*found)[i], fmt::format("{}[{}]", at(key), i));
      read(fields, entries.emplace_back());
      fields.end();
    }
  }

  // Every key was asked for, and none that is needed is missing.
  void end() const {
    const std::vector<std::string_view> known(known_.begin(), known_.end());
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::string_view nearest = nearest_name(key, known);
      fail_input("{}: {} is no key of a machine{}", document_.place(at(key.c_str())), at(key.c_str()),
                 nearest.empty() ? fmt::format("; known here: {}", fmt::join(known, ", ")) : fmt::format("; the nearest is {}", nearest));
    }
    if (!missing_.empty())
      fail_input("{}: {} {} missing (docs/planning.md says what each key is)", document_.place(path_), fmt::join(missing_, ", "),
                 missing_.size() == 1 ? "is" : "are");
  }

 private:
  std::string at(const char* key) const { return path_.empty() ? key : path_ + "." + key; }
  const json* find(const char* key, bool needed) {
    known_.emplace_back(key);
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    if (needed) missing_.push_back(at(key));
    return nullptr;
  }
  [[noreturn]] void fail(const std::string& path, const json& found, const char* expected) const {
    fail_input("{}: {} is {}: expected {}", document_.place(path), path, schema::shown(found), expected);
  }

  const schema::Document& document_;
  const json& object_;
  std::string path_;
  std::vector<std::string> known_, missing_;
};

class Writer {
 public:
  void text(const char* key, const std::string& value) { out[key] = value; }
  void flag(const char* key, bool value) { out[key] = value; }
  void count(const char* key, int64_t value, bool needed = true) {
    if (needed || value > 0) out[key] = value;
  }
  void figure(const char* key, double value, double unit, bool needed = true) {
    if (needed || value > 0) out[key] = std::stod(fmt::format("{:.5g}", value / unit));
  }
  void type(const char* key, DType value) { out[key] = name_of(value); }
  void block(const char* key, bool needed, bool is_known, const std::function<void(Writer&)>& write) {
    if (!needed && !is_known) return;
    Writer fields;
    write(fields);
    if (!fields.out.empty()) out[key] = std::move(fields.out);
  }
  template <typename Entry, typename Write>
  void list(const char* key, const std::vector<Entry>& entries, const Write& write) {
    out[key] = ordered_json::array();
    for (const Entry& entry : entries) {
      Writer fields;
      write(fields, entry);
      out[key].push_back(std::move(fields.out));
    }
  }

  ordered_json out = ordered_json::object();
};

// What holds no objects stands on a line of its own.
std::string text_of(const ordered_json& value, const std::string& margin) {
  if (std::none_of(value.begin(), value.end(), [](const ordered_json& inner) { return inner.is_structured(); })) {
    std::string line;
    for (const auto& [key, inner] : value.items()) line += fmt::format("{}\"{}\": {}", line.empty() ? "" : ", ", key, inner.dump());
    return "{" + line + "}";
  }
  const std::string within = margin + "  ";
  std::string lines;
  for (const auto& [key, inner] : value.items())
    lines += fmt::format("{}{}{}{}", lines.empty() ? "" : ",\n", within, value.is_array() ? "" : fmt::format("\"{}\": ", key),
                         inner.is_structured() ? text_of(inner, within) : inner.dump());
  return fmt::format("{}\n{}\n{}{}", value.is_array() ? '[' : '{', lines, margin, value.is_array() ? ']' : '}');
}

// Figures that lookups need are there, each once.
void check_types(const std::string& file, const Machine& m) {
  const auto has = [](const auto& rates, DType type) {
    return std::any_of(rates.begin(), rates.end(), [&](const auto& rate) { return rate.type == type; });
  };
  if (!has(m.gemm, DType::F32)) fail_input("{}: gemm has no entry of type fp32, which types without an entry count as", file);
  for (const GemmRate& rate : m.gemm)
    if (!has(m.elementwise, rate.type))
      fail_input("{}: gemm has entries of type {}, elementwise has none: expected one", file, name_of(rate.type));
  for (size_t i = 0; i < m.gemm.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (const GemmRate& a = m.gemm[i], &b = m.gemm[j]; a.type == b.type && a.rows == b.rows && a.width == b.width)
        fail_input("{}: gemm[{}] and gemm[{}] are of one type and shape: one of the two has to go", file, j, i);
}

}  // namespace

Machine read_machine(const std::string& file) {
  const schema::Document document = schema::read_document(file);
  Machine machine;
  Reader fields(document, document.root, "");
  machine_fields(fields, machine);
  fields.end();
  check_types(file, machine);
  return machine;
}

void write_machine(const std::string& file, const Machine& machine) {
  Writer fields;
  machine_fields(fields, machine);
  write_durably(Disk::real(), file, text_of(fields.out, "") + "\n");
}

}  // namespace zerostep
