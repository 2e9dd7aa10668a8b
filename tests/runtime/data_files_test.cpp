#include <sys/stat.h>

#include "runtime/data/token_file.h"
#include "tests/runtime/support/data_test_files.h"

namespace zerostep {
namespace {

using DataFiles = DataTest;

TEST_F(DataFiles, GlobsAreSortedAndTheListKeepsItsOrder) {
  for (const char* name : {"b.txt", "a.txt", "B.txt", "10.txt", "9.txt", "x.jsonl", "y.bin", "a[1].txt"}) write(name, "x");
  std::filesystem::create_directory(folder_ / "folder.txt");
  const auto names = [&](const std::vector<std::string>& patterns) {
    std::vector<std::string> paths, found;
    for (const auto& pattern : patterns) paths.push_back(path(pattern));
    for (const auto& file : corpus_files({.paths = paths})) found.push_back(std::filesystem::path(file).filename());
    return found;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({"*.txt"}), (Names{"10.txt", "9.txt", "B.txt", "a.txt", "a[1].txt", "b.txt"}));
  EXPECT_EQ(names({"b.txt", "x.jsonl", "a.txt", "b.txt"}), (Names{"b.txt", "x.jsonl", "a.txt", "b.txt"}));
  EXPECT_EQ(names({"y.bin", "[ab].txt"}), (Names{"y.bin", "a.txt", "b.txt"}));
  EXPECT_EQ(names({"{x.jsonl,9.txt}"}), (Names{"9.txt", "x.jsonl"}));
  EXPECT_EQ(names({"a[1].txt"}), (Names{"a[1].txt"}));  // a file of that very name
}

TEST_F(DataFiles, WrongPathsAreNamed) {
  const auto refused = [&](const std::string& file, const std::vector<std::string>& parts) {
    std::vector<std::string> all = {"data.eval", file};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_error<InputError>([&] { corpus_files({.key = "data.eval", .paths = {file}}); }, all);
  };
  write("a.txt", "x");
  write("a.csv", "x");
  write("noending", "x");
  refused(path("none.txt"), {"cannot be found", "No such file"});
  refused(path("a.txt/b.txt"), {"Not a directory"});
  refused(path("none*.txt"), {"no file matches"});
  refused(folder_.string(), {"is a directory", folder_.string() + "/*.txt"});
  refused(path("a.csv"), {"unknown ending", ".jsonl"});
  refused(path("noending"), {"unknown ending"});
  refused("relative.txt", {"from the folder"});
  ASSERT_EQ(mkfifo(path("pipe.txt").c_str(), 0600), 0);
  refused(path("pipe.txt"), {"regular file"});
  std::filesystem::create_directory(folder_ / "only_folders");
  std::filesystem::create_directory(folder_ / "only_folders/x.txt");
  refused(path("only_folders/*"), {"no file matches"});
  expect_error<InputError>([&] { corpus_files({}); }, {"data.train", "no file is named"});
}

std::string llmc_header(int32_t magic, int32_t version, int32_t count) {
  std::vector<int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return {reinterpret_cast<const char*>(header.data()), 1024};
}

std::vector<int32_t> tokens_of(const TokenFile& file) {
  std::vector<int32_t> tokens(static_cast<size_t>(file.num_tokens()));
  file.read(0, file.num_tokens(), tokens.data());
  return tokens;
}

TEST_F(DataFiles, TokenFilesOfNanoGptAndLlmc) {
  const std::vector<uint16_t> small = {1, 2, 50256, 65535, 0};
  const std::vector<uint32_t> large = {7, 128000, 65536, 0};
  EXPECT_EQ(tokens_of(TokenFile::open_bin(write_values("nano.bin", small), "k")), (std::vector<int32_t>{1, 2, 50256, 65535, 0}));
  const auto gpt2 = TokenFile::open_bin(write_values("gpt2.bin", small, llmc_header(20240520, 1, 5)), "k");
  EXPECT_EQ(tokens_of(gpt2), (std::vector<int32_t>{1, 2, 50256, 65535, 0}));
  EXPECT_EQ(gpt2.largest_token(), 65535U);
  EXPECT_EQ(gpt2.first_at_least(50000), 2);
  const auto llama = TokenFile::open_bin(write_values("llama.bin", large, llmc_header(20240801, 7, 4)), "k");
  EXPECT_EQ(tokens_of(llama), (std::vector<int32_t>{7, 128000, 65536, 0}));
  EXPECT_EQ(llama.largest_token(), 128000U);
  EXPECT_EQ(llama.first_at_least(128001), 4);
  EXPECT_EQ(TokenFile::open_bin(write("empty.bin", ""), "k").num_tokens(), 0);
  std::vector<uint16_t> many(100001, 3);  // no multiple of the lanes
  many[99999] = 9;
  many[100000] = 11;
  EXPECT_EQ(TokenFile::open_bin(write_values("many.bin", many), "k").largest_token(), 11U);
  EXPECT_THROW(gpt2.read(3, 3, nullptr), ProtocolError);
}

TEST_F(DataFiles, DamagedTokenFilesAreRefused) {
  const std::vector<uint16_t> tokens = {1, 2, 3};
  const auto refused = [&](const std::string& file, const std::vector<std::string>& parts) {
    std::vector<std::string> all = {"data.train", file};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_error<InputError>([&] { TokenFile::open_bin(file, "data.train"); }, all);
  };
  refused(write("odd.bin", "abc"), {"3 bytes", "even"});
  refused(write_values("short.bin", tokens, llmc_header(20240520, 1, 4)), {"4 tokens", "room for 3"});
  refused(write_values("long.bin", tokens, llmc_header(20240520, 1, 2)), {"2 tokens", "room for 3"});
  refused(write_values("negative.bin", tokens, llmc_header(20240520, 1, -3)), {"-3 tokens"});
  refused(write_values("version.bin", tokens, llmc_header(20240520, 2, 3)), {"version 2", "version 1"});
  refused(write_values("version7.bin", tokens, llmc_header(20240801, 1, 3)), {"version 1", "version 7"});
  refused(write("header.bin", llmc_header(20240520, 1, 0).substr(0, 1000)), {"1000 bytes", "cut short"});
}

}  // namespace
}  // namespace zerostep
