#pragma once
#include <cstddef>
#include <vector>

namespace zerostep {

// Blocks of any size from reserved ranges of addresses, whose memory comes from the system and goes back to it in pages. A freed block
// joins its free neighbours, and a block takes the smallest free place that holds it, so that blocks of all sizes use the same pages. A
// page is held from the first block that lies on it until release_free(). Not synchronised.
class PageHeap {
 public:
  // A multiple of the system's page; huge pages are asked for where they fit.
  explicit PageHeap(size_t page_bytes) : page_bytes_(page_bytes) {}
  ~PageHeap();  // no block is in use any more
  PageHeap(const PageHeap&) = delete;
  PageHeap& operator=(const PageHeap&) = delete;

  struct Block {
    std::byte* data;   // aligned as num_bytes is
    size_t new_pages;  // that the system gave for it
  };
  // MemoryError where the system has no more.
  Block take(size_t num_bytes);
  void give(std::byte* data, size_t num_bytes);

  // Bytes of pages that are with the process, under blocks or free.
  size_t held_bytes() const { return held_pages_ * page_bytes_; }
  // Gives free pages back, from the highest address on, until they are `num_bytes` or none is left; gives how many bytes they are.
  size_t release_free(size_t num_bytes);

 private:
  struct Place {
    size_t begin, bytes;
  };
  struct Range {
    void* mapped;
    std::byte* base;           // the first page in it
    size_t bytes, opened = 0;  // from the base: addresses that may be used
    std::vector<bool> held;    // pages, up to the highest that ever was
    std::vector<Place> free;   // by address
  };
  Range& add_range(size_t num_bytes);
  void open(Range& range, size_t end);

  const size_t page_bytes_;
  size_t held_pages_ = 0;
  std::vector<Range> ranges_;
};

}  // namespace zerostep
