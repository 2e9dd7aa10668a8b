#include <arrow/array/builder_binary.h>
#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/type.h>
#include <arrow/util/io_util.h>
#include <parquet/arrow/writer.h>
#include <parquet/properties.h>

#include <cstring>
#include <utility>

#include "base/error.h"
#include "runtime/data/arrow_library.h"

namespace zerostep {
namespace {

// A page ends behind the batch of rows that fills it, and is in memory whole where it is read: batches are small.
constexpr size_t kBatchBytes = size_t{1} << 20, kGroupBytes = size_t{32} << 20;

class ParquetWriter final : public TableWriter {
 public:
  ParquetWriter(std::string path, const std::vector<std::string>& columns) : path_(std::move(path)), columns_(columns.size()) {
    arrow::FieldVector fields;
    for (const std::string& column : columns) fields.push_back(arrow::field(column, arrow::large_utf8(), false));
    schema_ = arrow::schema(fields);
    check(arrow::io::FileOutputStream::Open(path_).Value(&file_));
    auto properties = parquet::WriterProperties::Builder().compression(parquet::Compression::ZSTD)->build();
    check(parquet::arrow::FileWriter::Open(*schema_, arrow::default_memory_pool(), file_, std::move(properties)).Value(&writer_));
  }

  void append(const std::vector<std::string_view>& row) override {
    for (size_t i = 0; i < columns_.size(); ++i) {
      check(columns_[i].Append(row.at(i)));
      num_bytes_ += row[i].size();
    }
    ++num_rows_;
    if (num_bytes_ >= kBatchBytes) flush();
  }

  void close() override {
    flush();
    check(writer_->Close());
    check(file_->Close());
  }

 private:
  void check(const arrow::Status& status) const {
    if (status.ok()) return;
    // Arrow's message of a failed call to the system leaves out why.
    const int error = arrow::internal::ErrnoFromStatus(status);
    fail_run("cannot write '{}': {}", path_, error != 0 ? std::strerror(error) : status.message());
  }

  void flush() {
    if (num_rows_ == 0) return;
    std::vector<std::shared_ptr<arrow::Array>> arrays(columns_.size());
    for (size_t i = 0; i < columns_.size(); ++i) check(columns_[i].Finish(&arrays[i]));
    if (group_bytes_ == 0) check(writer_->NewBufferedRowGroup());
    check(writer_->WriteRecordBatch(*arrow::RecordBatch::Make(schema_, num_rows_, std::move(arrays))));
    group_bytes_ += num_bytes_;
    if (group_bytes_ >= kGroupBytes) group_bytes_ = 0;
    num_rows_ = 0;
    num_bytes_ = 0;
  }

  std::string path_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<arrow::io::FileOutputStream> file_;
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
  std::vector<arrow::LargeStringBuilder> columns_;
  int64_t num_rows_ = 0;
  size_t num_bytes_ = 0, group_bytes_ = 0;  // of the batch, and of the row group before it
};

}  // namespace
}  // namespace zerostep

void zerostep_write_parquet_1(const std::string& path, const std::vector<std::string>& columns,
                              std::unique_ptr<zerostep::TableWriter>& writer) {
  writer = std::make_unique<zerostep::ParquetWriter>(path, columns);
}
