#pragma once
#include <memory>
#include <string>

#include "runtime/data/data_stream.h"
#include "tests/runtime/support/data_test_files.h"

namespace zerostep {

// Streams of bytes from files of the test.
class DataStreamTest : public DataTest {
 protected:
  std::unique_ptr<DataStream> open(const DataOptions& options) const { return DataStream::open(options, *tokenizer_); }
  std::unique_ptr<DataStream> open_in_order(DataOptions options) const {
    options.shuffle = false;
    return open(options);
  }
  // `count` samples of three tokens' stride whose tokens tell where they come from.
  DataOptions numbered(int64_t count) const {
    std::string text;
    for (int64_t i = 0; i < 3 * count; ++i) text += static_cast<char>('!' + i);
    return options({write("numbered.txt", text)}, 3);
  }
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

}  // namespace zerostep
