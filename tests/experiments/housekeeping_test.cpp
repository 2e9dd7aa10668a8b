#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "experiments/housekeeping/archive.h"
#include "experiments/housekeeping/run_files.h"
#include "experiments/process/run_command.h"
#include "runtime/checkpoint/manifest.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::message_of;

class Housekeeping : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((scratch_.folder() / name).parent_path());
    std::ofstream(scratch_.folder() / name, std::ios::binary) << text;
  }
  std::string read(const fs::path& path) const {
    std::stringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }
  fs::path run() const { return scratch_.folder() / "a run"; }
  // "NAME: why", or "NAME", in order.
  std::vector<std::string> said(int64_t keep = 1) const {
    std::vector<std::string> out;
    for (const CheckpointFolder& c : checkpoints_of(run(), keep))
      out.push_back(c.path.filename().string() + (c.kept.empty() ? "" : ": " + c.kept));
    return out;
  }
  ScratchFolder scratch_;
};
using Names = std::vector<std::string>;

TEST_F(Housekeeping, LatestBestAndNewestStay) {
  for (const char* name : {"step_00000002", "step_00000004", "step_00000006", "step_00000100", "step_99999999", "step_100000000"})
    write(std::string("a run/checkpoints/") + name + "/manifest.json", "12345");
  write("a run/checkpoints/latest", "step_00000100\n");
  write("a run/checkpoints/best", "step_00000004\n");
  EXPECT_EQ(said(), (Names{"step_00000002", "step_00000004: best", "step_00000006", "step_00000100: latest", "step_99999999",
                           "step_100000000: newest"}));
  EXPECT_EQ(said(4), (Names{"step_00000002", "step_00000004: best", "step_00000006: newest", "step_00000100: latest",
                            "step_99999999: newest", "step_100000000: newest"}));
  write("a run/checkpoints/best", "step_00000100\n");
  EXPECT_EQ(said()[3], "step_00000100: latest, best");
  EXPECT_EQ(checkpoints_of(run())[0].bytes, 5);
}

TEST_F(Housekeeping, LeftoversGoAndWhatIsNoCheckpointIsNotLookedAt) {
  for (const char* name : {"step_00000002", ".partial-step_00000003", ".removed-step_00000001", "abandoned-step_00000009", "mine", "step_7",
                           "abandoned-notes"})
    write(std::string("a run/checkpoints/") + name + "/file", "1");
  EXPECT_EQ(said(), (Names{"step_00000002: newest", ".partial-step_00000003", ".removed-step_00000001", "abandoned-step_00000009"}));
  EXPECT_TRUE(checkpoints_of(scratch_.folder()).empty());
}

TEST_F(Housekeeping, CheckpointsBehindALinkAreNotLookedAt) {
  write("elsewhere/step_00000002/file", "1");
  fs::create_directories(run());
  fs::create_directory_symlink(scratch_.folder() / "elsewhere", run() / "checkpoints");
  EXPECT_SAYS(message_of<InputError>([&] { checkpoints_of(run()); }), "a run/checkpoints is a link to ");
  // Nor is one removed whose name cannot be read.
  fs::remove(run() / "checkpoints");
  write("a run/checkpoints/step_00000002/file", "1");
  fs::create_directories(run() / "checkpoints/best");
  EXPECT_SAYS(message_of<InputError>([&] { checkpoints_of(run()); }), "checkpoints/best' is a directory");
}

TEST_F(Housekeeping, ARunWithAnOwnerCannotBeClaimed) {
  fs::create_directories(run());
  {
    const FolderLock lock(run().string(), "run.name");
    const Claim claim = claim_run(run());
    EXPECT_FALSE(claim.lock);
    EXPECT_SAYS(claim.why_not, "belongs to a run that is going on");
  }
  const Claim claim = claim_run(run());
  EXPECT_TRUE(claim.lock);
  EXPECT_EQ(claim.why_not, "");
  EXPECT_TRUE(FolderLock::is_owned(run().string()));
}

TEST_F(Housekeeping, BytesAreThoseOfFilesWithoutTheTargetsOfLinks) {
  write("a run/one", "12345");
  write("a run/below/two", "123");
  write("other", "1234567");
  fs::create_symlink(scratch_.folder() / "other", run() / "link");
  fs::create_directory_symlink(scratch_.folder(), run() / "folder");
  EXPECT_EQ(bytes_below(run()), 8);
  EXPECT_EQ(bytes_below(scratch_.folder() / "nowhere"), 0);
}

class Archives : public Housekeeping {
 protected:
  Archives() {
    write("a run/metrics.csv", "step,loss\n0,1\n");
    write("a run/-odd \n name", std::string("a\0b", 3));
    write("a run/empty", "");
    write("a run/checkpoints/step_00000002/rank_00000.safetensors", std::string(300000, 'x'));
    write("a run/owner.lock", "process 1");
    fs::create_directories(run() / "nothing in it");
    fs::create_symlink("metrics.csv", run() / "link");
    fs::create_hard_link(run() / "metrics.csv", run() / "same");
  }
  fs::path archive() const { return scratch_.folder() / "archives" / "a run.tar"; }
  Names members() const {
    std::istringstream lines(run_command({"tar", "--list", "--quoting-style=escape", "--file", archive().string()}).out);
    Names out;
    for (std::string line; std::getline(lines, line);) out.push_back(line);
    std::sort(out.begin(), out.end());
    return out;
  }
};

TEST_F(Archives, HoldTheFolderAndTheChecksumsOfItsFiles) {
  const std::vector<ArchivedFile> files = archive_run(run(), archive(), true).files;
  EXPECT_EQ(files.size(), 5U);
  EXPECT_EQ(members(), (Names{"a run/", "a run/-odd \\n name", "a run/checkpoints/", "a run/checkpoints/step_00000002/",
                              "a run/checkpoints/step_00000002/rank_00000.safetensors", "a run/checksums.xxh128", "a run/empty",
                              "a run/link", "a run/metrics.csv", "a run/nothing in it/", "a run/same"}));
  EXPECT_EQ(std::distance(fs::directory_iterator(archive().parent_path()), fs::directory_iterator()), 1) << "something else is left there";
  const fs::path unpacked = scratch_.folder() / "unpacked";
  fs::create_directories(unpacked);
  ASSERT_EQ(run_command({"tar", "--extract", "--file", archive().string(), "--directory", unpacked.string()}).status, 0);
  for (const ArchivedFile& file : files) EXPECT_EQ(read(unpacked / "a run" / file.path), read(run() / file.path)) << file.path;
  EXPECT_TRUE(fs::is_symlink(unpacked / "a run/link"));
  // XXH3 of 128 bits of nothing, as its reference gives it.
  EXPECT_SAYS(read(unpacked / "a run/checksums.xxh128"), "99aa06d3014798d86001c324468d497f  empty\n");
  EXPECT_SAYS(read(unpacked / "a run/checksums.xxh128"), "\\" + files.front().checksum + "  -odd \\n name\n");
  EXPECT_TRUE(fs::exists(run() / "metrics.csv"));
}

TEST_F(Archives, HoldLinksAsLinks) {
  write("elsewhere/step_00000002/file", std::string(5000, 'x'));
  fs::create_directory_symlink(scratch_.folder() / "elsewhere", run() / "outside");
  using Links = std::vector<std::pair<std::string, std::string>>;
  const Links links{{"link", "metrics.csv"}, {"outside", (scratch_.folder() / "elsewhere").string()}};
  EXPECT_EQ(contents_to_archive(run(), true).links, links);
  const ArchiveContents contents = archive_run(run(), archive(), true);
  EXPECT_EQ(contents.links, links);
  EXPECT_EQ(contents.files.size(), 5U);
  EXPECT_EQ(contents.entries,
            (Names{"-odd \n name", "checkpoints", "checkpoints/step_00000002", "checkpoints/step_00000002/rank_00000.safetensors", "empty",
                   "link", "metrics.csv", "nothing in it", "outside", "same"}));
  const Names all = members();
  EXPECT_EQ(std::count(all.begin(), all.end(), "a run/outside"), 1);
  for (const std::string& member : all) EXPECT_FALSE(member.starts_with("a run/outside/")) << member;
}

TEST_F(Archives, LeaveOutNothingSilently) {
  ASSERT_EQ(::mkfifo((run() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(contents_to_archive(run(), true).left_out, Names{"pipe"});
  // What an archive that was unpacked has left is made anew, a file of the user's own is not replaced.
  write("a run/checksums.xxh128", std::string(32, '0') + "  metrics.csv\n\\" + std::string(32, '0') + "  a\\nb\n");
  EXPECT_EQ(archive_run(run(), archive(), true).left_out, Names{"pipe"});
  write("a run/checksums.xxh128", "my own\n");
  EXPECT_SAYS(message_of<InputError>([&] { contents_to_archive(run(), true); }), "checksums.xxh128 is no list of checksums");
}

TEST_F(Archives, LieOutsideTheFolder) {
  for (const char* place : {"x.tar", "checkpoints/x.tar"})
    EXPECT_SAYS(message_of<InputError>([&] { archive_run(run(), run() / place, true); }), "lies in the folder that is to be packed");
  EXPECT_SAYS(message_of<InputError>([&] { check_lies_outside(run() / ".." / "a run" / "new" / "x.tar", run()); }), "lies in the folder");
  check_lies_outside(scratch_.folder() / "a run 2" / "x.tar", run());
  archive_run(run(), scratch_.folder() / "a run.tar", true);
  EXPECT_TRUE(fs::exists(scratch_.folder() / "a run.tar"));
}

TEST_F(Archives, LeaveCheckpointsOutWhereThatIsAskedFor) {
  EXPECT_EQ(archive_run(run(), archive(), false).files.size(), 4U);
  for (const std::string& member : members()) EXPECT_EQ(member.find("checkpoints"), member.npos);
}

TEST_F(Archives, AreNeverWrittenOver) {
  write("archives/a run.tar", "something else");
  EXPECT_SAYS(message_of<InputError>([&] { archive_run(run(), archive(), true); }), "is there already");
  EXPECT_EQ(read(archive()), "something else");
}

TEST_F(Archives, AChangedByteOrACutEndIsFoundByReadingBack) {
  std::vector<ArchivedFile> files = archive_run(run(), archive(), true).files;
  const std::string checksums =
      run_command({"tar", "--extract", "--to-stdout", "--file", archive().string(), "a run/checksums.xxh128"}).out;
  files.push_back({kChecksumFile, std::ssize(checksums), checksum_of(checksums.data(), checksums.size())});
  verify_archive(archive(), files);
  const std::string content = read(archive());
  const size_t inside = content.find("xxxxxxxx") + 100000;
  std::string changed = content;
  changed[inside] ^= 1;
  write("archives/a run.tar", changed);
  EXPECT_SAYS(message_of<RunError>([&] { verify_archive(archive(), files); }), "rank_00000.safetensors has the checksum");
  write("archives/a run.tar", content.substr(0, inside));
  EXPECT_SAYS(message_of<RunError>([&] { verify_archive(archive(), files); }), "cannot be read back");
  write("archives/a run.tar", content);
  files.pop_back();
  EXPECT_SAYS(message_of<RunError>([&] { verify_archive(archive(), files); }), "holds more than the 5 files");
  files.push_back({kChecksumFile, std::ssize(checksums) + 1, ""});
  EXPECT_SAYS(message_of<RunError>([&] { verify_archive(archive(), files); }), "ends within checksums.xxh128");
}

TEST(RunCommand, GivesStatusAndOutput) {
  const CommandResult result = run_command({"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(run_command({"sh", "-c", "kill -9 $$"}).status, 128 + 9);
  EXPECT_EQ(run_command({"sh", "-c", "echo $ONE; cat"}, {.environment = {{"ONE", "a b"}}}).out, "a b\n");
  EXPECT_SAYS(message_of<RunError>([] { run_command({"no-program-of-this-name"}); }), "no-program-of-this-name cannot be started");
  const CommandResult late = run_command({"sleep", "60"}, {.timeout_seconds = 0.2});
  EXPECT_TRUE(late.timed_out);
  EXPECT_EQ(late.status, 128 + 15);
  // Much output does not block it.
  EXPECT_EQ(run_command({"head", "-c", "1000000", "/dev/zero"}).out.size(), 1000000U);
}

}  // namespace
}  // namespace zerostep
