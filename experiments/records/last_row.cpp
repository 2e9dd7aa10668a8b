#include "experiments/records/last_row.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>

#include "base/file_descriptor.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

std::string part_of(int file, int64_t begin, int64_t size) {
  std::string text(static_cast<size_t>(size), '\0');
  const ssize_t count = ::pread(file, text.data(), text.size(), begin);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, count)));
  return text;
}

}  // namespace

std::map<std::string, std::string, std::less<>> last_row(const std::filesystem::path& metrics) {
  constexpr int64_t kLongest = 8192;  // of a row, and of the header
  std::map<std::string, std::string, std::less<>> out;
  const FileDescriptor file(::open(metrics.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return out;
  const int64_t size = status.st_size;
  const std::string head = part_of(file.get(), 0, std::min(size, kLongest));
  const size_t end_of_header = head.find('\n');
  if (end_of_header == head.npos) return out;
  const int64_t begin = std::max<int64_t>(static_cast<int64_t>(end_of_header) + 1, size - 2 * kLongest);
  const std::string tail = part_of(file.get(), begin, size - begin);
  const size_t end = tail.rfind('\n');
  if (end == tail.npos) return out;
  const size_t start = end == 0 ? tail.npos : tail.rfind('\n', end - 1);
  const std::vector<std::string> names = csv_cells(std::string_view(head).substr(0, end_of_header)),
                                 cells = csv_cells(std::string_view(tail).substr(start == tail.npos ? 0 : start + 1,
                                                                                 end - (start == tail.npos ? 0 : start + 1)));
  if (names.size() != cells.size()) return out;
  for (size_t i = 0; i < names.size(); ++i)
    out.emplace(names[i], cells[i]);  // of a name that stands there twice the first, as MetricsTable
  return out;
}

double number_in(const std::map<std::string, std::string, std::less<>>& row, std::string_view column) {
  const auto it = row.find(column);
  const std::string text = it == row.end() ? "" : it->second;
  return csv_number(text.data(), text.data() + text.size());
}

}  // namespace zerostep
