#include "runtime/data/json_rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json_depth.h"
#include "models/text_file.h"
#include "runtime/data/text_stream.h"

namespace zerostep {
namespace {

using nlohmann::json;
using Kind = FieldValue::Kind;

// By its name, or by names with dots between them. Nothing: there is none. `is_cut`: one of the objects on the way is null.
const json* find_value(const json& object, std::string_view name, bool& is_cut) {
  const auto whole = object.find(name);
  if (whole != object.end()) return &*whole;
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    const auto outer = object.find(name.substr(0, dot));
    if (outer == object.end()) continue;
    is_cut = is_cut || outer->is_null();
    if (!outer->is_object()) continue;
    if (const json* inner = find_value(*outer, name.substr(dot + 1), is_cut)) return inner;
  }
  return nullptr;
}

// A part of a file, whole lines, behind so many.
class JsonRows final : public RowBatch {
 public:
  JsonRows(TextPart part, int64_t lines_before, std::shared_ptr<const std::vector<std::string>> fields, std::string key)
      : part_(std::move(part)), fields_(std::move(fields)), key_(std::move(key)), buffers_(fields_->size()), line_(lines_before) {}

  bool next() override {
    while (next_ < part_.text.size()) {
      begin_ = next_;
      const size_t line_end = std::min(part_.text.find('\n', begin_), part_.text.size());
      next_ = line_end + 1;
      ++line_;
      const std::string_view line = part_.text.substr(begin_, line_end - begin_);
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
        ++num_blank_lines_;
        continue;
      }
      parse(line);
      return true;
    }
    return false;
  }

  FieldValue field(size_t index) override {
    bool is_cut = false;
    const json* value = find_value(object_, (*fields_)[index], is_cut);
    if (value == nullptr) return {is_cut ? Kind::Null : Kind::Missing, {}};
    std::string& buffer = buffers_[index];
    switch (value->type()) {
      case json::value_t::null:
        return {Kind::Null, {}};
      case json::value_t::string:
        return {Kind::Text, value->get_ref<const std::string&>()};
      case json::value_t::boolean:
        return {Kind::Boolean, value->get<bool>() ? "true" : "false"};
      case json::value_t::number_integer:
      case json::value_t::number_unsigned:
      case json::value_t::number_float:
        return {Kind::Number, buffer = value->dump()};
      case json::value_t::array:
        if (texts_of(*value, buffer)) return {Kind::Texts, buffer};
        [[fallthrough]];
      default:
        return {Kind::Other, buffer = shown(*value)};
    }
  }

  void add_fields(std::vector<TableField>& fields) const override { add_fields_of(object_, fields); }

  std::string type_of(size_t index) override {
    bool is_cut = false;
    const json* value = find_value(object_, (*fields_)[index], is_cut);
    if (value == nullptr) return "missing";
    const bool has_null = value->is_array() && std::any_of(value->begin(), value->end(), [](const json& v) { return v.is_null(); });
    return std::string(value->type_name()) + (has_null ? " with a null among its values" : "");
  }
  int64_t number() const override { return line_; }
  std::string place() const override { return fmt::format("{}:{}", part_.path, number()); }
  bool is_checked_utf8() const override { return true; }  // by the parser
  size_t num_bytes() const override { return part_.text.size(); }
  int64_t num_blank_lines() const override { return num_blank_lines_; }

  std::string lacks(const std::string& field, const std::string& named_by) const override {
    return fmt::format("{} has no field '{}', which {} names; its fields are: {}", place(), field, named_by,
                       fmt::join(names([](const TableField&) { return true; }), ", "));
  }
  std::string texts_there_are() const override {
    const std::vector<std::string> texts = names([](const TableField& one) { return one.is_text; });
    return texts.empty() ? " (it has no field of text)" : fmt::format(" (its fields of text are: {})", fmt::join(texts, ", "));
  }

 private:
  template <typename Predicate>
  std::vector<std::string> names(const Predicate& is_wanted) const {
    std::vector<TableField> fields;
    add_fields(fields);
    std::vector<std::string> out;
    for (const TableField& one : fields)
      if (is_wanted(one)) out.push_back(one.name);
    return out;
  }

  void parse(std::string_view line) {
    if (is_json_too_deep(line))
      fail_input("{}: {} nests objects or lists more than {} deep; flatter rows are expected", key_, place(), kDeepestJson);
    try {
      object_ = json::parse(line.begin(), line.end());
    } catch (const json::exception& error) {
      if (part_.mapped) require_lines(key_ + ": ", part_.path, part_.mapped->text());
      const size_t stray = first_ill_formed_byte(line);
      if (stray != std::string_view::npos) fail_input("{}: {}", key_, part_.not_utf8_at(begin_ + stray));
      // "[json.exception.parse_error.101] parse error at line 1, column 5: ...": the line is ours to tell.
      const std::string_view what = error.what();
      fail_input("{}: {} is not valid JSON: {}; one object a line is expected", key_, place(), what.substr(what.find("] ") + 2, 300));
    }
    if (!object_.is_object()) fail_input("{}: {} is {}; one object a line is expected", key_, place(), object_.type_name());
  }

  // What may be nested without end is not written out.
  std::string shown(const json& value) const {
    constexpr size_t kLongest = 200;
    return next_ - begin_ <= kLongest ? value.dump() : value.type_name();
  }

  static bool texts_of(const json& list, std::string& out) {
    if (!std::all_of(list.begin(), list.end(), [](const json& element) { return element.is_string(); })) return false;
    out.clear();
    for (const json& element : list) {
      if (&element != &list.front()) out += ' ';
      out += element.get_ref<const std::string&>();
    }
    return true;
  }

  TextPart part_;
  std::shared_ptr<const std::vector<std::string>> fields_;
  std::string key_;
  std::vector<std::string> buffers_;
  json object_;
  size_t begin_ = 0, next_ = 0;  // the line's begin and the next one's
  int64_t line_;                 // its number in the file, from 1
  int64_t num_blank_lines_ = 0;
};

// Lines of a file, some at a time.
class JsonLines final : public RowReader {
 public:
  JsonLines(const std::string& path, const std::vector<std::string>& fields, const std::string& key)
      : stream_(path, key), fields_(std::make_shared<const std::vector<std::string>>(fields)), key_(key) {}

  std::unique_ptr<RowBatch> next() override {
    for (size_t size = kPartBytes;; size *= 2) {
      const std::string_view text = stream_.look(size);
      if (text.empty()) return nullptr;
      const size_t line_end = text.size() <= kPartBytes ? std::string_view::npos : text.find('\n', kPartBytes);
      if (line_end == std::string_view::npos && !stream_.is_all()) continue;
      TextPart part = stream_.take(line_end == std::string_view::npos ? text.size() : line_end + 1);
      const int64_t before = lines_;
      lines_ += std::count(part.text.begin(), part.text.end(), '\n');
      return std::make_unique<JsonRows>(std::move(part), before, fields_, key_);
    }
  }
  int64_t bytes_read() const override { return stream_.bytes_read(); }

 private:
  static constexpr size_t kPartBytes = 1 << 20;
  TextStream stream_;
  std::shared_ptr<const std::vector<std::string>> fields_;
  std::string key_;
  int64_t lines_ = 0;  // of what was taken
};

}  // namespace

std::unique_ptr<RowReader> open_json_lines(const std::string& path, const std::vector<std::string>& fields, const std::string& key) {
  return std::make_unique<JsonLines>(path, fields, key);
}

}  // namespace zerostep
