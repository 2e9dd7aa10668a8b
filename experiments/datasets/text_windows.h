#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace zerostep {

// Finds windows of some texts in others, byte for byte. Of the texts that are looked for, windows of kBytes are kept, one at every kBytes
// and one at the end; of a shorter text its beginning and its end, of the largest multiple of kFewest bytes that it has, and none of one
// below kFewest. In a text that is searched every position is compared. So whatever stands in both at a stretch of 2 kBytes - 1 is found.
class TextWindows {
 public:
  static constexpr size_t kBytes = 128, kFewest = 32;

  // Keeps the windows of a text.
  void add(std::string_view text);
  int64_t size() const { return std::ssize(windows_); }
  // Texts that were added, and those of them without a window.
  int64_t num_texts() const { return num_texts_; }
  int64_t num_too_short() const { return num_too_short_; }
  // How many of the kept windows a text has, each place once.
  int64_t count_in(std::string_view text) const;

 private:
  struct Window {
    uint64_t check;  // another hash of the same bytes
    uint32_t length;
  };
  void keep(std::string_view window);

  int64_t num_texts_ = 0, num_too_short_ = 0;
  std::unordered_multimap<uint64_t, Window> windows_;                      // by their rolling hash
  std::vector<uint32_t> lengths_;                                          // that there are, each once
  std::vector<uint64_t> filter_ = std::vector<uint64_t>(size_t{1} << 17);  // a bit for the first bits of each hash
};

}  // namespace zerostep
