#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <chrono>
#include <future>
#include <thread>

#include "base/file_descriptor.h"
#include "experiments/fetch/part_file.h"
#include "tests/experiments/support/fetch_from_hub.h"

// Which files a data set has, where they come to lie, and what is there already.
namespace zerostep::testing {
namespace {

// FIPS 180-2's example, and what `echo hello | git hash-object --stdin` prints.
TEST_F(FetchFromHub, ChecksumsAreThoseOfTheStandards) {
  EXPECT_EQ(FakeHub::sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write("hello", "hello\n");
  EXPECT_EQ(checksum_of_file(scratch_.path("hello"), DigestKind::Sha1, 6), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST_F(FetchFromHub, BringsWhatMatchesByteForByteAndOnce) {
  hub_.files["data/b c.parquet"] = content_of(100000, 2);
  hub_.files["data/deeper/d.parquet"] = "x";
  hub_.files["plain.parquet"] = content_of(70, 3);
  hub_.files["data/empty.parquet"] = "";
  const json entries =
      entry({{"hub", "o/n"}, {"files", {"data/*.parquet", "plain.parquet"}}}, {"mine/data/*.parquet", "mine/plain.parquet"});
  const FetchOutcome told = fetch(entries);
  for (const char* name : {"data/a.parquet", "data/b c.parquet", "data/empty.parquet", "plain.parquet"})
    EXPECT_EQ(read("mine/" + std::string(name)), hub_.files[name]) << name;
  EXPECT_FALSE(exists("mine/data/deeper"));
  EXPECT_FALSE(exists("mine/data/a.parquet.part"));
  EXPECT_FALSE(exists("mine/data/a.parquet.part.json"));
  EXPECT_EQ(told.commit, hub_.commit);
  EXPECT_EQ(told.num_files, 4);
  EXPECT_EQ(told.all_files, 4);
  EXPECT_EQ(told.num_bytes, 105070);
  EXPECT_EQ(told.fetched_files, 4);
  EXPECT_EQ(told.fetched_bytes, 105070);
  EXPECT_EQ(told.rows, std::nullopt);
  expect_progress_ends_at(105070);
  const auto asked = hub_.asked();
  EXPECT_EQ(asked[0].target, "/api/datasets/o/n/revision/main?expand=sha");
  EXPECT_EQ(asked[1].target, "/api/datasets/o/n/tree/" + hub_.commit + "?recursive=true&expand=false");
  EXPECT_EQ(hub_.asked_for_files()[1].target, "/datasets/o/n/resolve/" + hub_.commit + "/data/b%20c.parquet");
  EXPECT_EQ(asked[0].header("user-agent"), "zerostep");
  for (const Asked& one : asked) EXPECT_EQ(one.header("authorization") + one.header("range"), "");
  // Again: listed, and nothing more.
  EXPECT_EQ(fetch(entries).fetched_files, 0);
  EXPECT_EQ(hub_.asked_for_files().size(), 3U);
  // Without its record a file is known by its checksum.
  std::filesystem::remove(scratch_.path("mine/.fetched.jsonl"));
  EXPECT_EQ(fetch(entries).fetched_files, 0);
  EXPECT_EQ(hub_.asked_for_files().size(), 3U);
}

TEST_F(FetchFromHub, APartOfOtherContentStartsAnew) {
  // Of another version on the hub.
  write_part(a().substr(0, 1000), FakeHub::sha256("other"));
  fetch();
  EXPECT_EQ(hub_.asked_for_files().back().header("range"), "");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  expect_progress_ends_at(5000);
  // Longer than the file.
  remove_all();
  states_.clear();
  write_part(a() + "x", FakeHub::sha256(a()));
  fetch();
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  expect_progress_ends_at(5000);
  // Damaged here: the checksum shows it when all the others have come.
  remove_all();
  states_.clear();
  write_part(std::string(1000, 'x'), FakeHub::sha256(a()));
  EXPECT_EQ(fetch().fetched_bytes, 4000 + 5000);
  EXPECT_SAYS(said_, "what was here of it is damaged");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  expect_progress_ends_at(4000 + 5000);
}

TEST_F(FetchFromHub, AWrongChecksumRemovesTheFile) {
  std::string other = a();
  other[4321] ^= 1;
  answer_files(100, {.body = other});
  const std::string text = failure();
  EXPECT_SAYS(text, "'data/a.parquet' has a wrong checksum");
  EXPECT_SAYS(text, FakeHub::sha256(other));
  EXPECT_SAYS(text, FakeHub::sha256(a()));
  for (const char* name : {"a.parquet", "a.parquet.part", "a.parquet.part.json"}) EXPECT_FALSE(exists("mine/data/" + std::string(name)));
  EXPECT_EQ(hub_.asked_for_files().size(), 1U);
}

TEST_F(FetchFromHub, DocumentsAreCountedInWholeFiles) {
  hub_.files.clear();
  // Called .json on the hub, and lines of objects all the same.
  for (const char* name : {"en/c4-0.json", "en/c4-1.json", "en/c4-2.json"}) {
    std::string& lines = hub_.files[name];
    for (int i = 0; i < 10; ++i) lines += json{{"text", name + std::to_string(i)}}.dump() + (i % 3 == 0 ? "\n\n" : "\n");
  }
  const json entries = entry({{"hub", "o/n"}, {"files", "en/c4-*.json"}}, "mine/en/c4-*.jsonl");
  const FetchOutcome some = fetch(entries, 15);
  EXPECT_EQ(some.rows, 20);
  EXPECT_EQ(some.num_files, 2);
  EXPECT_EQ(some.all_files, 3);
  EXPECT_EQ(read("mine/en/c4-1.jsonl"), hub_.files["en/c4-1.json"]);
  EXPECT_FALSE(exists("mine/en/c4-2.jsonl"));
  EXPECT_EQ(fetch(entries, 20).fetched_files, 0);
  const FetchOutcome more = fetch(entries, 1000);
  EXPECT_EQ(more.rows, 30);
  EXPECT_EQ(more.fetched_files, 1);
}

TEST_F(FetchFromHub, WhatIsInTheWayIsNotTouched) {
  for (const std::string& mine : {std::string("mine"), std::string(5000, 'm')}) {
    write("mine/data/a.parquet", mine);
    EXPECT_SAYS(failure<InputError>(), "is here already, and is not the file 'data/a.parquet' of data set 'o/n'");
    EXPECT_EQ(read("mine/data/a.parquet"), mine);
  }
  remove_all();
  fetch();
  // A new version on the hub, in which a file has another name.
  const std::string first = a();
  hub_.files["data/b.parquet"] = "b";
  fetch();
  hub_.files["data/a.parquet"] = content_of(5000, 9);
  hub_.files.erase("data/b.parquet");
  hub_.commit = std::string(40, 'e');
  EXPECT_EQ(fetch().fetched_files, 1);
  EXPECT_NE(a(), first);
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  EXPECT_SAYS(said_, "'data/a.parquet' has changed on the hub");
  EXPECT_SAYS(said_, "mine/data/b.parquet' is here, is no longer in the data set");
}

TEST_F(FetchFromHub, WhatFindsNoRoomIsNotBegun) {
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos)
      reply.body = json{{{"type", "file"}, {"path", "data/a.parquet"}, {"size", int64_t{1} << 50}, {"oid", std::string(40, '0')}}}.dump();
  };
  EXPECT_SAYS(failure(), "1.00 PiB are to be fetched to " + scratch_.path("mine"));
  EXPECT_TRUE(hub_.asked_for_files().empty());
}

TEST_F(FetchFromHub, PathsThatLeadElsewhereAreNotFollowed) {
  hub_.files["data/../../evil.parquet"] = "evil";
  hub_.files["data/.hidden.parquet"] = "hidden";
  hub_.files["data/line\nbreak.parquet"] = "a terminal's";
  hub_.files
      ["data/\xc2\x9b"
       "31m.parquet"] = "a terminal's";
  EXPECT_EQ(fetch().num_files, 1);
  EXPECT_FALSE(exists("evil.parquet"));
  const std::string deeper = failure(entry({{"hub", "o/n"}, {"files", "data/*/*/*.parquet"}}, "mine/data/*/*/*.parquet"));
  EXPECT_SAYS(deeper, "has no file data/*/*/*.parquet");
}

TEST_F(FetchFromHub, TwoAtOnceFetchEachFileOnce) {
  for (int i = 0; i < 10; ++i) hub_.files["data/" + std::to_string(i) + ".parquet"] = content_of(3000, 40 + static_cast<uint32_t>(i));
  const HubSource from = source();
  std::atomic<int64_t> fetched = 0;
  const auto one = [&] {
    FetchRequest request{.name = "mine", .hub = settings_};
    fetched += fetch_data_set(from, request).fetched_files;
  };
  std::thread other(one);
  one();
  other.join();
  EXPECT_EQ(fetched, 11);
  EXPECT_EQ(hub_.asked_for_files().size(), 11U);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(read("mine/data/" + std::to_string(i) + ".parquet"), hub_.files["data/" + std::to_string(i) + ".parquet"]);
}

TEST_F(FetchFromHub, TheCatalogueSaysWhereFilesLie) {
  const HubSource c4 = source(entry({{"hub", "allenai/c4"}, {"files", "en/c4-train.*.json.gz"}}, "data/c4/en/c4-train.*.jsonl.gz"));
  EXPECT_EQ(c4.folder_of_hub(), "en");
  EXPECT_EQ(c4.place_of("en/c4-train.00000.json.gz"), scratch_.path("data/c4/en/c4-train.00000.jsonl.gz"));
  EXPECT_EQ(c4.place_of("en/c4-train.00000.json.gz.part"), std::nullopt);
  EXPECT_EQ(c4.place_of("fr/c4-train.00000.json.gz"), std::nullopt);
  const auto refusal = [&](const json& entries) { return message_of<InputError>([&] { source(entries); }); };
  EXPECT_SAYS(refusal({{"mine", {{"files", "a.txt"}, {"source", "made here"}}}}), "'mine' is of no hub");
  EXPECT_SAYS(refusal({{"mine", {{"files", "a.txt"}, {"source", "made here"}}}}), "\"made here\"");
  EXPECT_SAYS(refusal(entry({{"hub", "o/n"}, {"files", "x/*.parquet"}})), "none of its \"files\"");
  EXPECT_SAYS(refusal(entry({{"hub", "o/n"}})), "source.files is missing");
  EXPECT_SAYS(refusal(entry({{"hub", "o/n"}, {"files", "../*.parquet"}})), "within the data set");
  EXPECT_SAYS(refusal(entry({{"hub", "https://huggingface.co/o/n"}, {"files", "*.parquet"}})), "\"OWNER/NAME\"");
  EXPECT_SAYS(refusal(entry({{"hub", "o/n"}, {"files", "*.parquet"}, {"revison", "main"}})), "source.revison is not a known key");
  EXPECT_SAYS(refusal(entry({{"hub", "o/n"}, {"files", 3}})), "source.files is 3");
}

// The program's own data sets can all be fetched but for the one that is made here.
TEST_F(FetchFromHub, TheProgramsCatalogueCanBeFetched) {
  const auto own = schema::Catalogue::read(std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/datasets.json");
  for (const schema::Catalogue::Entry& entry : own.entries()) {
    if (entry.name == "dclm-pubmedqa-merged") continue;
    const HubSource from(own, entry);
    EXPECT_EQ(from.folder(), own.folder() + "/data/" + entry.name);
    EXPECT_EQ(own.how_to_get(entry).find("`zerostep data fetch " + entry.name), 0U);
  }
}

// Two files of a hub in one place would be fetched over each other by every call.
TEST_F(FetchFromHub, APlaceIsOfOneFile) {
  const json entries = entry({{"hub", "o/n"}, {"files", {"en/*.json", "en/*.jsonl"}}}, {"mine/en/*.jsonl", "mine/en/*.jsonl"});
  hub_.files = {{"en/a.json", "{}\n"}, {"en/a.jsonl", "{ }\n"}};
  const std::string text = failure(entries);
  EXPECT_SAYS(text, "lists 'en/a.json' and 'en/a.jsonl', which would both come to lie in '" + scratch_.path("mine/en/a.jsonl") + "'");
  EXPECT_TRUE(hub_.asked_for_files().empty());
  hub_.files.erase("en/a.jsonl");
  hub_.change = [](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") == std::string::npos) return;
    json listing = json::parse(reply.body);
    listing.push_back(listing[0]);
    reply.body = listing.dump();
  };
  EXPECT_EQ(fetch(entries).all_files, 1);
}

TEST_F(FetchFromHub, NamesThatFetchingMakesAreNoFilesOfADataSet) {
  const json entries = entry({{"hub", "o/n"}, {"files", {"*", ".fetch*"}}}, {"mine/*", "mine/.fetch*"});
  hub_.files = {{"a.txt", "a"}, {"a.txt.part", "b"}, {"a.txt.part.json", "c"}, {".fetch.lock", "d"}, {".fetched.jsonl", "e"}};
  EXPECT_EQ(fetch(entries).all_files, 1);
  EXPECT_EQ(read("mine/a.txt"), "a");
  EXPECT_EQ(read("mine/.fetch.lock"), "");
}

TEST_F(FetchFromHub, ALinkThatLeadsNowhereIsNotReplaced) {
  write("mine/data/b.parquet", "");
  std::filesystem::create_symlink(scratch_.path("unmounted"), scratch_.path("mine/data/a.parquet"));
  EXPECT_SAYS(failure<InputError>(), "mine/data/a.parquet' is a link that leads nowhere");
  EXPECT_TRUE(std::filesystem::is_symlink(scratch_.path("mine/data/a.parquet")));
  EXPECT_TRUE(hub_.asked_for_files().empty());
  // One that leads to the file is as good as the file.
  write("unmounted", a());
  EXPECT_EQ(fetch().fetched_files, 0);
}

// What the other process fetches may be of a later commit than what was asked for before the wait.
TEST_F(FetchFromHub, TheHubIsAskedWhenTheOtherFetchHasEnded) {
  write("mine/.fetch.lock", "");
  FileDescriptor lock(::open(scratch_.path("mine/.fetch.lock").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
  std::promise<void> waits;
  FetchRequest request{.name = "mine", .hub = settings_};
  request.say = [&](const std::string& text) {
    EXPECT_SAYS(text, "mine is being fetched by another process: waiting for its end");
    waits.set_value();
  };
  const HubSource from = source();
  std::future<FetchOutcome> outcome = std::async(std::launch::async, [&] { return fetch_data_set(from, request); });
  EXPECT_EQ(waits.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_TRUE(hub_.asked().empty());
  hub_.commit = std::string(40, 'e');
  lock = FileDescriptor();
  EXPECT_EQ(outcome.get().commit, std::string(40, 'e'));
}

}  // namespace
}  // namespace zerostep::testing
