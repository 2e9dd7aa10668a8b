#pragma once
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/data/row_reader.h"

namespace zerostep {

// What messages say of a table's columns.
struct ColumnNames {
  explicit ColumnNames(const arrow::Schema& schema);
  std::string path;
  std::vector<std::string> texts, others;  // others with their types
  std::vector<TableField> all;
};

// Where a field lies in a table: a column, then the parts of structs. Empty: it has none.
using FieldPath = std::vector<int>;
// By its name, or by names with dots between them: of a struct and one of its parts.
FieldPath find_field(const arrow::FieldVector& fields, const std::string& name);
// The first name on a path that another field beside it has too; "": each is the only one.
std::string ambiguous_name(const arrow::FieldVector& fields, const FieldPath& path);

// A batch's rows [begin, end), of which the first is number `first_number` of its file. `fields` are those that were asked for, by their
// names and where they lie.
struct BatchRows {
  std::shared_ptr<arrow::RecordBatch> batch;
  int64_t begin = 0, end = 0, first_number = 1;
  size_t num_bytes = 0;
};
std::unique_ptr<RowBatch> make_column_rows(BatchRows rows, const std::vector<std::string>& fields,
                                           std::shared_ptr<const ColumnNames> names);

}  // namespace zerostep
