#include <zlib.h>
#include <zstd.h>

#include <random>

#include "runtime/data/compressed_file.h"
#include "tests/runtime/support/data_test_files.h"
#include "tests/runtime/support/table_files.h"
#include "tests/support/large_table.h"
#include "tests/support/memory_growth.h"

namespace zerostep {
namespace {

constexpr size_t kTextBytes = size_t{96} << 20;
constexpr int64_t kMostBytes = int64_t{48} << 20;

// One token a text, so that what grows is what reads.
class BriefTokenizer final : public CountingTokenizer {
 public:
  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    bytes += static_cast<int64_t>(text.size());
    out.push_back(1);
  }
};

class ReadingMemory : public DataTest {
 protected:
  // Letters that do not repeat themselves, each of six bits.
  static std::string letters(size_t size) {
    constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+";
    static std::mt19937_64 random(3);
    std::string out(size, ' ');
    for (size_t i = 0; i < size; i += 10)
      for (uint64_t bits = random(), j = i; j < std::min(size, i + 10); ++j, bits >>= 6) out[j] = kLetters[bits & 63];
    return out;
  }
  // Rows of JSON, a few megabytes of them compressed by `compress`, over and over as members of one file.
  static void write_lines(const std::string& file, const std::function<std::string(const std::string& text)>& compress) {
    std::string text;
    while (text.size() < size_t{4} << 20) text += "{\"text\": \"" + letters(1 << 15) + "\"}\n";
    const std::string member = compress(text);
    std::ofstream out(file, std::ios::binary);
    for (size_t size = 0; size < kTextBytes; size += text.size()) out << member;
  }
  static std::string gzip(const std::string& text) {
    std::string out(text.size() + 1024, '\0');
    z_stream stream = {};
    deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
  }
  static std::string zstandard(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
    return out;
  }
  // A table of tests/runtime/tables as it was before it was compressed.
  static void unpack(const std::string& file) {
    const auto packed = open_compressed(table_file(std::filesystem::path(file).filename().string() + ".zst"), "test");
    std::ofstream out(file, std::ios::binary);
    std::string part(1 << 20, '\0');
    for (size_t size = part.size(); size == part.size();) {
      size = packed->read(part.data(), part.size());
      out.write(part.data(), static_cast<std::streamsize>(size));
    }
  }
};

// The first start of a run, which reads a file to know its content and once more to tokenize it: of 96 MiB of text it has 48 MiB in memory
// at the most, pages of mapped files counted. At once these are what a Parquet file's reader has of one row group, or a window and a stride
// of a mapped file, and some megabytes of text in work with its tokens; allocators keep some of it. Whoever keeps what was read, or the
// pages of a file, grows by 70 MiB at the least, which the smaller of the compressed files has. (The packed table takes little room; its
// batches are 96 MiB.) What is kept of a plain text file, TextStream's own test says.
TEST_F(ReadingMemory, OfACorpusIsBoundedWhateverItsKind) {
  // What Arrow's library and the first use of others take is no part of it.
  for (const char* name : {"zstd.parquet", "packed.arrow", "rows.jsonl.gz", "rows.jsonl.zst"})
    DataStream::open(options({table_file(name)}), BriefTokenizer());
  using Maker = void (*)(const std::string& file);
  const Maker parquet = [](const std::string& file) { testing::write_large_table(file, 3, 1 << 15); };
  for (const auto& [name, make] : {std::pair("a.parquet", parquet),
                                   {"many_stream.arrow", unpack},
                                   {"many_file.arrow", unpack},
                                   {"many_packed.arrow", unpack},
                                   {"a.jsonl.gz", [](const std::string& file) { write_lines(file, gzip); }},
                                   {"a.jsonl.zst", [](const std::string& file) { write_lines(file, zstandard); }}}) {
    const std::string file = path(name);
    // Where it is made no memory of Arrow's stays behind that its reader would use again.
    EXPECT_GE(testing::memory_growth_of([&, make = make] { make(file); }), 0) << file;
    DataOptions given = options({file});
    given.cache = path("cache");
    given.num_threads = 1;
    const int64_t growth = testing::memory_growth_of([&] {
      const BriefTokenizer tokenizer;
      DataStream::open(given, tokenizer);
      if (tokenizer.bytes < static_cast<int64_t>(kTextBytes))
        throw std::runtime_error(fmt::format("only {} bytes", tokenizer.bytes.load()));
    });
    EXPECT_GE(growth, 0) << file;
    EXPECT_LE(growth, kMostBytes) << file;
    std::filesystem::remove(file);
  }
}

}  // namespace
}  // namespace zerostep
