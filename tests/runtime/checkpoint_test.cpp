#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "tests/runtime/support/checkpoint_case.h"

// Checkpoints as files: what is written and what is refused.
namespace zerostep::testing {
namespace {

TEST_F(Checkpoints, AnyRunOfElementsIsPutTogetherFromTheFilesOfAllRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    save(ranks, ranks);
    CheckpointReader reader(latest_checkpoint(folder()));
    EXPECT_EQ(reader.manifest().step, ranks);
    EXPECT_EQ(reader.manifest().files.size(), static_cast<size_t>(ranks));
    reader.open();
    EXPECT_TRUE(reader.contains("matrix", -1, 1200));
    EXPECT_TRUE(reader.contains("matrix", 1, 1200));
    EXPECT_FALSE(reader.contains("matrix", 2, 1200));
    EXPECT_FALSE(reader.contains("matrix", 0, 1201));
    EXPECT_FALSE(reader.contains("other", -1, 1));
    EXPECT_EQ(reader.arrays_of("a.vector"), 2);
    for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1200}, {399, 2}, {599, 402}, {1199, 1}, {5, 0}}) {
      std::vector<float> found(static_cast<size_t>(count) + 1, -1.0f);
      reader.read("matrix", 0, begin, count, found.data());
      for (int64_t i = 0; i < count; ++i) ASSERT_EQ(found[static_cast<size_t>(i)], value(ranks, 0, begin + i)) << ranks << " ranks";
      EXPECT_EQ(found.back(), -1.0f);
    }
    float nothing[8];
    EXPECT_NE(error_of([&] { reader.read("a.vector", -1, 3, 5, nothing); }).find("element 7 of a.vector"), std::string::npos);
  }
}

TEST_F(Checkpoints, SixteenBitValuesKeepTheirBits) {
  std::vector<uint16_t> bits(1200);
  std::iota(bits.begin(), bits.end(), uint16_t{0x3F00});
  CheckpointWriter writer(options(), {{&matrix_, StatePiece::kValues, 0, 1200, DType::BF16}},
                          [&](std::span<std::byte* const> targets) { std::memcpy(targets[0], bits.data(), 2400); });
  writer.save(manifest_of(1));
  writer.finish();
  CheckpointReader reader(latest_checkpoint(folder()));
  reader.open();
  std::vector<float> found(1200);
  reader.read("matrix", StatePiece::kValues, 0, 1200, found.data());
  for (size_t i = 0; i < 1200; ++i) {
    uint32_t word = 0;
    std::memcpy(&word, &found[i], 4);
    ASSERT_EQ(word, uint32_t{bits[i]} << 16);
  }
}

TEST_F(Checkpoints, TheStateMayChangeAsSoonAsSaveReturns) {
  Rank rank = state_of(0, 1, 1);
  CheckpointWriter writer(options(), rank.pieces, rank.copy());
  for (int64_t step = 1; step <= 5; ++step) {
    set_step(rank, step);
    writer.save(manifest_of(step));
    set_step(rank, 77);
  }
  writer.finish();
  expect_whole(latest_checkpoint(folder()));
  EXPECT_EQ(writer.times().count, 5);
}

TEST_F(Checkpoints, TheNewestStayAndLaterOnesOfAnotherBranchToo) {
  Rank rank = state_of(0, 1, 1);
  const auto names = [&] {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder())) out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  };
  {
    CheckpointWriter writer(options(), rank.pieces, rank.copy());
    for (const int64_t step : {10, 20, 30, 40}) {
      set_step(rank, step);
      writer.save(manifest_of(step));
    }
    writer.finish();
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"latest", "step_00000030", "step_00000040"}));
  // From step 30 on again: 40 is not older.
  CheckpointWriter writer(options(), rank.pieces, rank.copy());
  for (const int64_t step : {32, 34}) {
    set_step(rank, step);
    writer.save(manifest_of(step));
  }
  writer.finish();
  EXPECT_EQ(names(), (std::vector<std::string>{"latest", "step_00000032", "step_00000034", "step_00000040"}));
  EXPECT_EQ(fs::path(latest_checkpoint(folder())).filename(), "step_00000034");
  // And over 40, which the new one replaces.
  set_step(rank, 40);
  writer.save(manifest_of(40));
  writer.finish();
  expect_whole(latest_checkpoint(folder()));
}

TEST_F(Checkpoints, EveryDamageNamesTheFile) {
  save(3, 2);
  const fs::path good = latest_checkpoint(folder());
  const auto open_all = [](const fs::path& directory) {
    CheckpointReader reader(directory.string());
    for (size_t f = 0; f < reader.manifest().files.size(); ++f) reader.verify(f);
    reader.open();
  };
  open_all(good);
  int tried = 0;
  for (const char* name : {"manifest.json", "rank_00000.safetensors", "rank_00001.safetensors"}) {
    std::ifstream in(good / name, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), {}};
    const auto refused = [&](const std::optional<std::string>& damaged) {
      const fs::path copy = root_ / "copy";
      fs::remove_all(copy);
      fs::copy(good, copy);
      if (damaged)
        std::ofstream(copy / name, std::ios::binary) << *damaged;
      else
        fs::remove(copy / name);
      const std::string error = error_of([&] { open_all(copy); });
      EXPECT_NE(error.find(name), std::string::npos) << name << ": " << error;
      ++tried;
    };
    refused(std::nullopt);
    refused("");
    refused(content + " ");
    for (const size_t cut : {content.size() - 1, content.size() / 2, size_t{1}}) refused(content.substr(0, cut));
    for (size_t at = 0; at < content.size(); at += content.size() / 41 + 1)
      for (const int bit : {0, 4, 7}) {
        std::string flipped = content;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        refused(flipped);
      }
  }
  EXPECT_GT(tried, 300);
}

TEST_F(Checkpoints, APointerThatNamesNothingIsRefused) {
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest"), std::string::npos);
  save(1);
  for (const char* text : {"", "\n", "../checkpoints/step_00000001\n", "step_00000002\n", "..\n", "\x01\x02\n"}) {
    std::ofstream(fs::path(folder()) / "latest") << text;
    EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest"), std::string::npos) << text;
    EXPECT_NE(error_of([&] { checkpoint_named_by(folder() + "/latest"); }).find("latest"), std::string::npos) << text;
  }
  std::ofstream(fs::path(folder()) / "latest") << "step_00000001\nstep_00000001\n";
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest: is damaged: it has several lines"), std::string::npos);
}

TEST_F(Checkpoints, LatestAndBestStandForTheCheckpointsThatTheyName) {
  save(1);
  const std::string checkpoint = folder() + "/step_00000001";
  std::ofstream(folder() + "/best") << "step_00000001\n";
  for (const char* name : {"/latest", "/best", "/step_00000001"}) EXPECT_EQ(checkpoint_named_by(folder() + name), checkpoint) << name;
  // A model's directory may have any name.
  std::filesystem::create_directories(folder() + "/models/latest");
  EXPECT_EQ(checkpoint_named_by(folder() + "/models/latest"), folder() + "/models/latest");
  EXPECT_EQ(checkpoint_named_by(""), "");
  // What is no file names nothing.
  std::filesystem::remove(folder() + "/latest");
  std::filesystem::create_symlink("latest", folder() + "/latest");
  const auto message = [&] {
    try {
      latest_checkpoint(folder());
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_EQ(message().find(folder() + "/latest: is no file"), 0u) << message();
  std::filesystem::remove(folder() + "/latest");
  std::filesystem::create_directory(folder() + "/latest");
  EXPECT_EQ(message().find(folder() + "/latest: is no file"), 0u) << message();
}

}  // namespace
}  // namespace zerostep::testing
