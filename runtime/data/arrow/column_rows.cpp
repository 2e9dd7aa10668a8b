#include "runtime/data/arrow/column_rows.h"

#include <arrow/array.h>
#include <arrow/extension_type.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace zerostep {
namespace {

using arrow::Array;
using arrow::Type;
using Kind = FieldValue::Kind;

bool is_text(const arrow::DataType& type) {
  if (type.id() == Type::DICTIONARY) return is_text(*static_cast<const arrow::DictionaryType&>(type).value_type());
  if (type.id() == Type::EXTENSION) return is_text(*static_cast<const arrow::ExtensionType&>(type).storage_type());
  return type.id() == Type::STRING || type.id() == Type::LARGE_STRING || type.id() == Type::STRING_VIEW;
}

void add_names(const arrow::FieldVector& fields, const std::string& before, ColumnNames& out) {
  for (const auto& field : fields) {
    const std::string name = before + field->name();
    if (field->type()->id() == Type::STRUCT) {
      add_names(field->type()->fields(), name + ".", out);
      continue;
    }
    out.all.push_back({name, field->type()->ToString(), is_text(*field->type())});
    if (is_text(*field->type())) {
      out.texts.push_back(name);
    } else {
      out.others.push_back(fmt::format("{} ({})", name, field->type()->ToString()));
    }
  }
}

// The text of a value of an array of texts, whatever their layout. Nothing: the array is of another type.
std::optional<std::string_view> text_at(const Array& array, int64_t row) {
  switch (array.type_id()) {
    case Type::STRING:
    case Type::BINARY:
      return static_cast<const arrow::BinaryArray&>(array).GetView(row);
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY:
      return static_cast<const arrow::LargeBinaryArray&>(array).GetView(row);
    case Type::STRING_VIEW:
    case Type::BINARY_VIEW:
      return static_cast<const arrow::BinaryViewArray&>(array).GetView(row);
    default:
      return std::nullopt;
  }
}

template <typename ArrayType>
auto number_at(const Array& array, int64_t row) {
  return static_cast<const ArrayType&>(array).Value(row);
}

// With the digits of a float: 0.1 is no 0.10000000149011612.
using FloatJson = nlohmann::basic_json<std::map, std::vector, std::string, bool, int64_t, uint64_t, float>;

// A whole number or a fraction, as JSON writes it; "null" for what is no number. Nothing: the array is of another type.
std::optional<std::string> number_of(const Array& array, int64_t row) {
  switch (array.type_id()) {
    case Type::INT8:
      return std::to_string(number_at<arrow::Int8Array>(array, row));
    case Type::INT16:
      return std::to_string(number_at<arrow::Int16Array>(array, row));
    case Type::INT32:
      return std::to_string(number_at<arrow::Int32Array>(array, row));
    case Type::INT64:
      return std::to_string(number_at<arrow::Int64Array>(array, row));
    case Type::UINT8:
      return std::to_string(number_at<arrow::UInt8Array>(array, row));
    case Type::UINT16:
      return std::to_string(number_at<arrow::UInt16Array>(array, row));
    case Type::UINT32:
      return std::to_string(number_at<arrow::UInt32Array>(array, row));
    case Type::UINT64:
      return std::to_string(number_at<arrow::UInt64Array>(array, row));
    case Type::FLOAT:
      return FloatJson(number_at<arrow::FloatArray>(array, row)).dump();
    case Type::DOUBLE:
      return nlohmann::json(number_at<arrow::DoubleArray>(array, row)).dump();
    default:
      return std::nullopt;
  }
}

class ColumnRows final : public RowBatch {
 public:
  ColumnRows(BatchRows rows, const std::vector<std::string>& fields, std::shared_ptr<const ColumnNames> names)
      : rows_(std::move(rows)), names_(std::move(names)), row_(rows_.begin - 1) {
    for (const std::string& name : fields) columns_.push_back(column(find_field(rows_.batch->schema()->fields(), name)));
  }

  bool next() override { return ++row_ < rows_.end; }
  int64_t number() const override { return rows_.first_number + row_ - rows_.begin; }
  std::string place() const override { return fmt::format("{}: row {}", names_->path, number()); }
  bool is_checked_utf8() const override { return false; }
  size_t num_bytes() const override { return rows_.num_bytes; }

  std::string lacks(const std::string& field, const std::string& named_by) const override {
    return fmt::format("'{}' has no column '{}', which {} names; {}{}", names_->path, field, named_by, texts(),
                       names_->others.empty() ? "" : fmt::format(", beside {}", fmt::join(names_->others, ", ")));
  }
  std::string texts_there_are() const override { return fmt::format(" ({})", texts()); }
  std::string type_of(size_t index) override {
    const std::shared_ptr<Array>& array = columns_[index].array;
    if (!array) return "missing";
    return array->type()->ToString() + (has_null_in_list(*array, row_) ? " with a null among its values" : "");
  }

  FieldValue field(size_t index) override {
    Column& column = columns_[index];
    if (!column.array) return {};
    for (const std::shared_ptr<Array>& parent : column.parents)
      if (parent->IsNull(row_)) return {Kind::Null, {}};
    return value(*column.array, row_, column.buffer);
  }

 private:
  struct Column {
    std::shared_ptr<Array> array;                 // none: the table has no such column
    std::vector<std::shared_ptr<Array>> parents;  // structs around it
    std::string buffer;
  };

  Column column(const FieldPath& path) const {
    Column out;
    for (const int part : path) {
      if (!out.array) {
        out.array = rows_.batch->column(part);
        continue;
      }
      out.parents.push_back(out.array);
      out.array = static_cast<const arrow::StructArray&>(*out.parents.back()).field(part);
    }
    while (out.array && out.array->type_id() == Type::EXTENSION)
      out.array = static_cast<const arrow::ExtensionArray&>(*out.array).storage();
    return out;
  }

  std::string texts() const {
    return names_->texts.empty() ? "it has no column of text" : fmt::format("its columns of text are: {}", fmt::join(names_->texts, ", "));
  }

  static FieldValue value(const Array& array, int64_t row, std::string& buffer) {
    if (array.IsNull(row)) return {Kind::Null, {}};
    if (const auto text = text_at(array, row)) return {Kind::Text, *text};
    if (auto number = number_of(array, row)) {
      buffer = std::move(*number);
      return buffer == "null" ? FieldValue{Kind::Null, {}} : FieldValue{Kind::Number, buffer};
    }
    switch (array.type_id()) {
      case Type::NA:
        return {Kind::Null, {}};
      case Type::BOOL:
        return {Kind::Boolean, static_cast<const arrow::BooleanArray&>(array).Value(row) ? "true" : "false"};
      case Type::DICTIONARY: {
        const auto& dictionary = static_cast<const arrow::DictionaryArray&>(array);
        return value(*dictionary.dictionary(), dictionary.GetValueIndex(row), buffer);
      }
      case Type::LIST:
        return texts_of(static_cast<const arrow::ListArray&>(array), row, buffer);
      case Type::LARGE_LIST:
        return texts_of(static_cast<const arrow::LargeListArray&>(array), row, buffer);
      case Type::FIXED_SIZE_LIST:
        return texts_of(static_cast<const arrow::FixedSizeListArray&>(array), row, buffer);
      default:
        return other(array, buffer);
    }
  }

  static bool has_null_in_list(const Array& array, int64_t row) {
    const auto has_null = [row](const auto& list) {
      if (list.IsNull(row)) return false;
      for (int64_t i = list.value_offset(row); i < list.value_offset(row) + list.value_length(row); ++i)
        if (list.values()->IsNull(i)) return true;
      return false;
    };
    switch (array.type_id()) {
      case Type::LIST:
        return has_null(static_cast<const arrow::ListArray&>(array));
      case Type::LARGE_LIST:
        return has_null(static_cast<const arrow::LargeListArray&>(array));
      case Type::FIXED_SIZE_LIST:
        return has_null(static_cast<const arrow::FixedSizeListArray&>(array));
      default:
        return false;
    }
  }

  static FieldValue other(const Array& array, std::string& buffer) {
    buffer = array.type()->ToString();
    return {Kind::Other, buffer};
  }

  template <typename ListArray>
  static FieldValue texts_of(const ListArray& list, int64_t row, std::string& buffer) {
    const Array& values = *list.values();
    const int64_t begin = list.value_offset(row), end = begin + list.value_length(row);
    if (begin == end) return {Kind::Texts, {}};
    buffer.clear();
    std::string element_buffer;
    for (int64_t i = begin; i < end; ++i) {
      const FieldValue element = value(values, i, element_buffer);
      if (element.kind != Kind::Text) return other(list, buffer);
      if (i > begin) buffer += ' ';
      buffer += element.text;
    }
    return {Kind::Texts, buffer};
  }

  BatchRows rows_;
  std::shared_ptr<const ColumnNames> names_;
  std::vector<Column> columns_;
  int64_t row_;
};

}  // namespace

ColumnNames::ColumnNames(const arrow::Schema& schema) { add_names(schema.fields(), "", *this); }

FieldPath find_field(const arrow::FieldVector& fields, const std::string& name) {
  for (size_t i = 0; i < fields.size(); ++i)
    if (fields[i]->name() == name) return {static_cast<int>(i)};
  for (size_t i = 0; i < fields.size(); ++i) {
    const std::string prefix = fields[i]->name() + ".";
    if (fields[i]->type()->id() != Type::STRUCT || !name.starts_with(prefix)) continue;
    FieldPath inner = find_field(fields[i]->type()->fields(), name.substr(prefix.size()));
    if (inner.empty()) continue;
    inner.insert(inner.begin(), static_cast<int>(i));
    return inner;
  }
  return {};
}

std::string ambiguous_name(const arrow::FieldVector& fields, const FieldPath& path) {
  const arrow::FieldVector* at = &fields;
  for (const int part : path) {
    const std::string& name = at->at(static_cast<size_t>(part))->name();
    if (std::count_if(at->begin(), at->end(), [&](const auto& field) { return field->name() == name; }) > 1) return name;
    at = &at->at(static_cast<size_t>(part))->type()->fields();
  }
  return "";
}

std::unique_ptr<RowBatch> make_column_rows(BatchRows rows, const std::vector<std::string>& fields,
                                           std::shared_ptr<const ColumnNames> names) {
  return std::make_unique<ColumnRows>(std::move(rows), fields, std::move(names));
}

}  // namespace zerostep
