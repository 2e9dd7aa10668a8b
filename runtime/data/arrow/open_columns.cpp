#include <arrow/array.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <arrow/result.h>
#include <arrow/util/byte_size.h>
#include <fmt/format.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "base/error.h"
#include "runtime/data/arrow/column_rows.h"
#include "runtime/data/arrow_library.h"

namespace zerostep {
namespace {

constexpr int64_t kMostRows = 4096;  // of a batch: a column of equal texts takes little space in a file
constexpr int64_t kStreamBuffer = 1 << 20;
// Of a mapped file: bytes behind the last batch that stay in memory, as batches that are in work lie there, and strides in which the rest
// leaves it.
constexpr int64_t kKept = 16 << 20, kStride = 8 << 20;

// What Arrow's calls fail with.
class ArrowError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void check(const arrow::Status& status) {
  if (!status.ok()) throw ArrowError(status.message());
}
template <typename T>
T checked(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

// Whatever a damaged file makes Arrow throw or say becomes one message that names the file.
template <typename F>
auto guarded(const ColumnFile& file, const F& f) {
  const auto fail = [&](std::string_view reason) {
    fail_input("{}: '{}' cannot be read as {}: {}: it is damaged, cut short or of another kind; restore it", file.key, file.path,
               file.is_parquet ? "Parquet" : "Arrow", reason.substr(0, reason.find('\n')));
  };
  try {
    return f();
  } catch (const InputError&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail("it asks for more memory than there is");
  } catch (const std::exception& error) {
    fail(error.what());
  }
  throw ProtocolError("unreachable");
}

// Where a wanted field lies. InputError where another has its name.
FieldPath path_in(const ColumnFile& file, const arrow::Schema& schema, const std::string& field) {
  FieldPath path = find_field(schema.fields(), field);
  if (const std::string name = ambiguous_name(schema.fields(), path); !name.empty())
    fail_input("{}: '{}' has several columns called '{}': write it anew with one of that name", file.key, file.path, name);
  return path;
}

int64_t rows_of_batch(int64_t batch_bytes, int64_t num_rows, int64_t num_bytes) {
  if (num_bytes <= 0) return kMostRows;
  return std::clamp<int64_t>(
      static_cast<int64_t>(static_cast<double>(batch_bytes) * static_cast<double>(num_rows) / static_cast<double>(num_bytes)), 1,
      kMostRows);
}

// Texts as bytes: whether they are UTF-8 is looked at where they are read, which names the row.
std::shared_ptr<arrow::Array> as_bytes(const std::shared_ptr<arrow::Array>& array) {
  switch (array->type_id()) {
    case arrow::Type::STRING:
      return checked(array->View(arrow::binary()));
    case arrow::Type::LARGE_STRING:
      return checked(array->View(arrow::large_binary()));
    default:
      return array;
  }
}

// What a damaged file gives must not lead outside its buffers: neither Arrow's format nor Parquet's dictionaries are looked at by who reads
// them.
void check_layout(const arrow::RecordBatch& batch) {
  check(batch.Validate());
  for (const auto& column : batch.columns()) {
    if (column->type_id() != arrow::Type::DICTIONARY) {
      check(as_bytes(column)->ValidateFull());
      continue;
    }
    const auto& coded = static_cast<const arrow::DictionaryArray&>(*column);
    const auto values = as_bytes(coded.dictionary());
    check(values->ValidateFull());
    check(arrow::DictionaryArray(arrow::dictionary(coded.indices()->type(), values->type()), coded.indices(), values).ValidateFull());
  }
}

// Row group by row group, and of each a batch at a time: pages are read as they are needed.
class ParquetRows final : public RowReader {
 public:
  explicit ParquetRows(ColumnFile file) : file_(std::move(file)) {
    guarded(file_, [&] {
      input_ = checked(arrow::io::ReadableFile::Open(file_.path));
      num_bytes_ = checked(input_->GetSize());
      parquet::ReaderProperties properties;
      properties.enable_buffered_stream();
      properties.set_buffer_size(kStreamBuffer);
      properties.set_page_checksum_verification(true);
      parquet::ArrowReaderProperties arrow_properties(false);
      arrow_properties.set_pre_buffer(false);
      parquet::arrow::FileReaderBuilder builder;
      check(builder.Open(input_, properties));
      reader_ = checked(builder.properties(arrow_properties)->Build());
      std::shared_ptr<arrow::Schema> schema;
      check(reader_->GetSchema(&schema));
      auto names = std::make_shared<ColumnNames>(*schema);
      names->path = file_.path;
      names_ = std::move(names);
      for (const std::string& field : file_.fields) add_leaves(path_in(file_, *schema, field));
      std::sort(leaves_.begin(), leaves_.end());
      leaves_.erase(std::unique(leaves_.begin(), leaves_.end()), leaves_.end());
      num_rows_ = reader_->parquet_reader()->metadata()->num_rows();
    });
  }

  std::unique_ptr<RowBatch> next() override {
    return guarded(file_, [&]() -> std::unique_ptr<RowBatch> {
      for (;;) {
        if (!batches_ && !begin_group()) return nullptr;
        std::shared_ptr<arrow::RecordBatch> batch;
        check(batches_->ReadNext(&batch));
        if (!batch) {
          batches_.reset();
          continue;
        }
        if (batch->num_rows() == 0) continue;
        check_layout(*batch);
        const int64_t first = rows_read_ + 1, count = batch->num_rows();
        rows_read_ += count;
        const auto bytes = static_cast<size_t>(arrow::util::TotalBufferSize(*batch));
        return make_column_rows({std::move(batch), 0, count, first, bytes}, file_.fields, names_);
      }
    });
  }

  std::vector<TableField> columns() const override { return names_->all; }

  int64_t bytes_read() const override {
    return num_rows_ == 0
               ? num_bytes_
               : static_cast<int64_t>(static_cast<double>(num_bytes_) * static_cast<double>(rows_read_) / static_cast<double>(num_rows_));
  }

 private:
  void add_leaves(const FieldPath& path) {
    const std::vector<parquet::arrow::SchemaField>* fields = &reader_->manifest().schema_fields;
    const parquet::arrow::SchemaField* field = nullptr;
    for (const int part : path) {
      field = &fields->at(static_cast<size_t>(part));
      fields = &field->children;
    }
    if (field != nullptr) add_leaves_of(*field);
  }
  void add_leaves_of(const parquet::arrow::SchemaField& field) {
    if (field.is_leaf()) leaves_.push_back(field.column_index);
    for (const parquet::arrow::SchemaField& child : field.children) add_leaves_of(child);
  }

  bool begin_group() {
    if (group_ == reader_->num_row_groups()) return false;
    const auto group = reader_->parquet_reader()->metadata()->RowGroup(group_);
    int64_t bytes = 0;
    for (const int leaf : leaves_) bytes += group->ColumnChunk(leaf)->total_uncompressed_size();
    reader_->set_batch_size(rows_of_batch(file_.batch_bytes, group->num_rows(), bytes));
    batches_ = checked(reader_->GetRecordBatchReader({group_++}, leaves_));
    return true;
  }

  ColumnFile file_;
  std::shared_ptr<arrow::io::ReadableFile> input_;
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<const ColumnNames> names_;
  std::vector<int> leaves_;
  int group_ = 0;
  int64_t num_bytes_ = 0, num_rows_ = 0, rows_read_ = 0;
};

// Batch by batch; those that are not compressed are read where they lie. The file is mapped, and its pages leave the process's memory
// behind the batches.
class IpcRows final : public RowReader {
 public:
  explicit IpcRows(ColumnFile file) : file_(std::move(file)) {
    guarded(file_, [&] {
      input_ = checked(arrow::io::MemoryMappedFile::Open(file_.path, arrow::io::FileMode::READ));
      num_bytes_ = checked(input_->GetSize());
      options_.use_threads = false;
      const bool is_file = begins_as_file();
      const std::shared_ptr<arrow::Schema> schema = open(is_file);
      auto names = std::make_shared<ColumnNames>(*schema);
      names->path = file_.path;
      names_ = std::move(names);
      for (const std::string& field : file_.fields) {
        const FieldPath path = path_in(file_, *schema, field);
        if (!path.empty()) options_.included_fields.push_back(path.front());
      }
      std::sort(options_.included_fields.begin(), options_.included_fields.end());
      options_.included_fields.erase(std::unique(options_.included_fields.begin(), options_.included_fields.end()),
                                     options_.included_fields.end());
      // Arrow copies what it reads of chosen columns of a file, and would otherwise read it where it lies; columns that are compressed it
      // had to decompress, though. No column at all would be all of them.
      if (!options_.included_fields.empty() && !(is_file && lies_as_it_is())) open(is_file);
    });
  }

  std::unique_ptr<RowBatch> next() override {
    return guarded(file_, [&]() -> std::unique_ptr<RowBatch> {
      while (!batch_ || begin_ == batch_->num_rows()) {
        release_behind(bytes_read() - kKept);
        batch_ = next_batch();
        if (!batch_) return nullptr;
        begin_ = 0;
        const int64_t bytes = arrow::util::TotalBufferSize(*batch_);
        rows_each_ = rows_of_batch(file_.batch_bytes, batch_->num_rows(), bytes);
        row_bytes_ = batch_->num_rows() == 0 ? 0 : bytes / batch_->num_rows();
      }
      const int64_t begin = begin_, end = std::min(begin + rows_each_, batch_->num_rows()), first = rows_read_ + 1;
      begin_ = end;
      rows_read_ += end - begin;
      return make_column_rows({batch_, begin, end, first, static_cast<size_t>(row_bytes_ * (end - begin))}, file_.fields, names_);
    });
  }

  std::vector<TableField> columns() const override { return names_->all; }

  int64_t bytes_read() const override {
    if (file_reader_) return file_reader_->num_record_batches() == 0 ? num_bytes_ : num_bytes_ * next_ / file_reader_->num_record_batches();
    return input_->Tell().ValueOr(num_bytes_);
  }

 private:
  bool begins_as_file() {
    std::array<char, 6> magic = {};
    const int64_t read = checked(input_->ReadAt(0, static_cast<int64_t>(magic.size()), magic.data()));
    if (read == 0) throw ArrowError("it is empty");
    return std::memcmp(magic.data(), "ARROW1", magic.size()) == 0;
  }

  // Whether the first batch of a file is read where it lies, because it is not compressed.
  bool lies_as_it_is() {
    if (file_reader_->num_record_batches() == 0) return true;
    const auto all = checked(input_->ReadAt(0, num_bytes_));
    const auto batch = checked(file_reader_->ReadRecordBatch(0));
    for (const auto& column : batch->columns())
      for (const auto& buffer : column->data()->buffers)
        if (buffer && buffer->size() > 0) return buffer->data() >= all->data() && buffer->data() < all->data() + num_bytes_;
    return true;
  }

  std::shared_ptr<arrow::Schema> open(bool is_file) {
    if (is_file) {
      file_reader_ = checked(arrow::ipc::RecordBatchFileReader::Open(input_, options_));
      return file_reader_->schema();
    }
    check(input_->Seek(0));
    stream_reader_ = checked(arrow::ipc::RecordBatchStreamReader::Open(input_, options_));
    return stream_reader_->schema();
  }

  std::shared_ptr<arrow::RecordBatch> next_batch() {
    std::shared_ptr<arrow::RecordBatch> batch;
    if (file_reader_) {
      if (next_ == file_reader_->num_record_batches()) return nullptr;
      batch = checked(file_reader_->ReadRecordBatch(next_++));
    } else {
      check(stream_reader_->ReadNext(&batch));
      if (!batch) require_end();
    }
    if (batch) check_layout(*batch);
    return batch;
  }

  // Takes pages out of this process's memory. A later touch brings them back from the page cache or the file, so that the place may be an
  // estimate.
  void release_behind(int64_t end) {
    if (end < released_ + kStride) return;
    end = end / kStride * kStride;                     // whole pages
    const auto first = checked(input_->ReadAt(0, 1));  // where it lies
    ::madvise(const_cast<uint8_t*>(first->data()) + released_, static_cast<size_t>(end - released_), MADV_DONTNEED);
    released_ = end;
  }

  // A stream that ends without its mark, where a message might begin, was not written to its end.
  void require_end() {
    // Before Arrow 0.15 messages had no four bytes of ones before their length, and the mark, a length of 0, had none either.
    constexpr uint64_t kMark = 0x00000000FFFFFFFF;
    uint32_t first = 0;
    uint64_t last = 0;
    checked(input_->ReadAt(0, sizeof(first), &first));
    checked(input_->ReadAt(std::max<int64_t>(0, checked(input_->Tell()) - 8), sizeof(last), &last));
    const bool is_marked = first == UINT32_MAX ? last == kMark : last >> 32 == 0;
    if (!is_marked) throw ArrowError("the stream ends without its end mark");
  }

  ColumnFile file_;
  std::shared_ptr<arrow::io::MemoryMappedFile> input_;
  arrow::ipc::IpcReadOptions options_ = arrow::ipc::IpcReadOptions::Defaults();
  std::shared_ptr<arrow::ipc::RecordBatchFileReader> file_reader_;
  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> stream_reader_;
  std::shared_ptr<const ColumnNames> names_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  int next_ = 0;
  int64_t num_bytes_ = 0, begin_ = 0, rows_each_ = 1, row_bytes_ = 0, rows_read_ = 0, released_ = 0;
};

}  // namespace
}  // namespace zerostep

void zerostep_open_columns_3(const zerostep::ColumnFile& file, std::unique_ptr<zerostep::RowReader>& reader) {
  if (file.is_parquet) {
    reader = std::make_unique<zerostep::ParquetRows>(file);
  } else {
    reader = std::make_unique<zerostep::IpcRows>(file);
  }
}
