#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
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

// What a key counts, and the bounds within which a value can be meant, each with what it is: what lies beyond them is a mistake, most often
// of the unit.
struct Quantity {
  const char* unit;
  double per_unit;  // of what Machine counts
  double low;
  const char* low_is;
  double high;
  const char* high_is;
  const char* other = nullptr;  // a unit that is given by mistake
  double per_other = 0;         // of `unit`
};
constexpr Quantity kSpeed{"GB a second",    1e9, 1e-6, "a telephone line", 1e6, "a hundred times the fastest memory of an accelerator",
                          "bytes a second", 1e-9};
constexpr Quantity kWork{"TFLOP/s", 1e12, 1e-6, "a processor of 1980", 1e6, "a hundred times the fastest accelerator", "FLOP/s", 1e-12};
constexpr Quantity kNoise{"1e9 numbers a second", 1e9, 1e-6,
                          "a processor of 1980",  1e6, "a number for each byte of a hundred times the fastest memory",
                          "numbers a second",     1e-9};
constexpr Quantity kDuration{"microseconds", 1e-6, 5e-3, "light's way of 1.5 m", 1e7, "light's way beyond the moon", "seconds", 1e6};
constexpr Quantity kHead{"microseconds", 1e-6, 0, "no time", 1e7, "light's way beyond the moon", "seconds", 1e6};
constexpr Quantity kCores{"cores", 1, 1e-4, "ten thousand ranks on one", 65536, "more than hosts have"};
constexpr Quantity kMemory{"bytes", 1, 1e6, "less than any step takes", 1e15, "more than hosts have in ten years", "GB", 1e9};
constexpr Quantity kDisk{"bytes", 1, 1e6, "less than any step takes", 1e18, "a million drives", "GB", 1e9};
constexpr Quantity kRanks{"ranks", 1, 1, "one alone", 65536, "more than hosts have cores"};
constexpr Quantity kThreads{"threads", 1, 1, "one alone", 65536, "more than hosts have cores"};
constexpr Quantity kMultiprocessors{"multiprocessors", 1, 1, "one alone", 4096, "more than GPUs have in ten years"};
constexpr Quantity kSize{"elements", 1, 1, "one", 1e9, "longer than a matrix of any model"};
constexpr Quantity kMeasured{"seconds", 1, 0.01, "the shortest measurement", 3600, "the longest measurement"};

template <typename Fields, typename AnyLink>
void link_fields(Fields& fields, const char* key, AnyLink& link, bool needed) {
  fields.block(key, needed, link.bytes_per_second > 0, [&](auto& f) {
    f.figure("latency_us", link.latency_seconds, kDuration);
    f.figure("gb_per_s", link.bytes_per_second, kSpeed);
  });
}

// The keys of a machine file, in their order: `fields` reads or writes each. Where one is not needed it may be missing, which is 0.
template <typename Fields, typename AnyMachine>
void machine_fields(Fields& fields, AnyMachine& m) {
  fields.text("name", m.name);
  fields.figure("measured_seconds", m.measured_seconds, kMeasured, false);
  fields.flag("unsteady", m.is_unsteady, false);
  fields.count("ranks_per_host", m.ranks_per_host, kRanks);
  fields.count("threads_per_rank", m.threads_per_rank, kThreads);
  fields.flag("lanes_share_cores", m.lanes_share_cores);
  fields.figure("cores_per_rank", m.cores_per_rank, kCores);
  fields.flag("host_is_device", m.host_is_device);
  fields.count("multiprocessors", m.multiprocessors, kMultiprocessors, false);
  fields.block("capacity", false, true, [&](auto& f) {
    f.count("device_bytes", m.device_bytes, kMemory, false);
    f.count("host_bytes", m.host_bytes, kMemory, false);
    f.count("file_bytes", m.file_bytes, kDisk, false);
  });
  fields.list("gemm", m.gemm, [](auto& f, auto& rate) {
    f.type("type", rate.type);
    f.count("rows", rate.rows, kSize);
    f.count("width", rate.width, kSize);
    f.figure("tflops", rate.flops_per_second, kWork);
  });
  fields.list("elementwise", m.elementwise, [](auto& f, auto& rate) {
    f.type("type", rate.type);
    f.figure("gb_per_s", rate.bytes_per_second, kSpeed);
    f.figure("attention_tflops", rate.attention.flops_per_second, kWork, false);
    f.figure("attention_head_us", rate.attention.head_seconds, kHead, false);
    f.figure("attention_backward_tflops", rate.attention_backward.flops_per_second, kWork, false);
    f.figure("attention_backward_head_us", rate.attention_backward.head_seconds, kHead, false);
  });
  fields.figure("operation_us", m.operation_seconds, kDuration);
  fields.block("memory", true, true, [&](auto& f) { f.figure("device_gb_per_s", m.memory_bytes_per_second, kSpeed); });
  fields.figure("noise_gelements_per_s", m.noise_elements_per_second, kNoise);
  fields.figure("noise_16bit_gelements_per_s", m.noise_16bit_elements_per_second, kNoise, false);
  fields.block("update", true, true, [&](auto& f) {
    f.figure("device_gb_per_s", m.update_bytes_per_second, kSpeed);
    f.figure("host_gb_per_s", m.host_update_bytes_per_second, kSpeed);
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
  fields.figure("agreement_us", m.agreement_seconds, kDuration, has_peers);
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
  void flag(const char* key, bool& value, bool needed = true) {
    const json* found = find(key, needed);
    if (found == nullptr) return;
    if (!found->is_boolean()) fail(at(key), *found, "true or false");
    value = found->get<bool>();
  }
  template <typename Integer>
  void count(const char* key, Integer& value, const Quantity& quantity, bool needed = true) {
    if (const json* found = find(key, needed)) value = static_cast<Integer>(number(at(key), *found, quantity, true));
  }
  void figure(const char* key, double& value, const Quantity& quantity, bool needed = true) {
    if (const json* found = find(key, needed)) value = number(at(key), *found, quantity, false) * quantity.per_unit;
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
  double number(const std::string& path, const json& found, const Quantity& q, bool is_whole) const {
    const double value = found.is_number() ? found.get<double>() : 0, converted = value * q.per_other;
    if (value >= q.low && value <= q.high && (!is_whole || value == std::floor(value))) return value;
    std::string expected = fmt::format("a {} of {} from {:g} ({}) to {:g} ({})", is_whole ? "whole number" : "number", q.unit, q.low,
                                       q.low_is, q.high, q.high_is);
    if (converted >= q.low && converted <= q.high)
      expected += fmt::format("; if it is meant as {}, that is {:.12g} here", q.other, converted);
    fail(path, found, expected);
  }
  [[noreturn]] void fail(const std::string& path, const json& found, const std::string& expected) const {
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
  void flag(const char* key, bool value, bool needed = true) {
    if (needed || value) out[key] = value;
  }
  void count(const char* key, int64_t value, const Quantity&, bool needed = true) {
    if (needed || value > 0) out[key] = value;
  }
  void figure(const char* key, double value, const Quantity& quantity, bool needed = true) {
    if (needed || value > 0) out[key] = std::stod(fmt::format("{:.5g}", value / quantity.per_unit));
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
  for (size_t i = 0; i < m.elementwise.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (m.elementwise[i].type == m.elementwise[j].type)
        fail_input("{}: elementwise[{}] and elementwise[{}] are of one type: one of the two has to go", file, j, i);
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

int64_t capacity_of(int64_t bytes, int ranks) {
  const int64_t share = bytes / ranks;
  return share < static_cast<int64_t>(kMemory.low) ? 0 : std::min(share, static_cast<int64_t>(kMemory.high));
}

Machine read_machine(const std::string& file) {
  const schema::Document document = schema::read_document(file, "machine file");
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
