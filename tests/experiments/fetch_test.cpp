#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "experiments/fetch/fetch_data_set.h"
#include "experiments/fetch/part_file.h"
#include "runtime/config/catalogue.h"
#include "tests/support/expect_says.h"
#include "tests/support/fake_hub.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

// Data sets from a hub of the test's own, which cuts, stalls, lies, redirects and refuses.
namespace zerostep {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using testing::message_of;

// Bytes in which every place is told from every other.
std::string content_of(size_t size, uint32_t seed) {
  std::string out(size, '\0');
  for (char& c : out) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return out;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

class FetchFromHub : public ::testing::Test {
 protected:
  FetchFromHub() {
    hub_.files["data/a.parquet"] = content_of(5000, 1);
    settings_.endpoint = hub_.url();
    settings_.pause_seconds = 0.001;
  }

  static json entry(const json& source = {{"hub", "o/n"}, {"files", "data/*.parquet"}}, const json& files = "mine/data/*.parquet") {
    return {{"mine", {{"files", files}, {"source", source}}}};
  }
  HubSource source(const json& entries = entry()) const {
    write("datasets.json", entries.dump());
    const auto catalogue = schema::Catalogue::read(scratch_.path("datasets.json"));
    return {catalogue, *catalogue.find("mine")};
  }
  ordered_json fetch(const json& entries = entry(), int64_t documents = 0) {
    FetchRequest request{.name = "mine", .hub = settings_, .documents = documents};
    request.progress = [&](const FetchState& state) { states_.push_back(state); };
    request.say = [&](const std::string& text) { said_ += text + "\n"; };
    return fetch_data_set(source(entries), request);
  }
  template <typename Error = RunError>
  std::string failure(const json& entries = entry()) {
    return message_of<Error>([&] { fetch(entries); });
  }

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = scratch_.path(name);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string read(const std::string& name) const { return read_file(scratch_.path(name)); }
  bool exists(const std::string& name) const { return std::filesystem::exists(scratch_.path(name)); }
  const std::string& a() const { return hub_.files.at("data/a.parquet"); }
  // Cuts the answers with the content of files, as many as `times`, behind so many bytes.
  void cut_files(int times, size_t bytes) {
    hub_.change = [this, times, bytes](const Asked& asked, Reply& reply) {
      if (asked.target.find("/resolve/") == std::string::npos || changed_ >= times) return;
      ++changed_;
      reply.most_bytes = bytes;
    };
  }
  // Gives files this answer, as many times.
  void answer_files(int times, const Reply& with) {
    hub_.change = [this, times, with](const Asked& asked, Reply& reply) {
      if (asked.target.find("/resolve/") != std::string::npos && changed_++ < times) reply = with;
    };
  }

  ScratchFolder scratch_;
  HubSettings settings_;
  std::atomic<int> changed_ = 0;
  FakeHub hub_;
  std::string said_;
  std::vector<FetchState> states_;
};

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
  const ordered_json told = fetch(entries);
  for (const char* name : {"data/a.parquet", "data/b c.parquet", "data/empty.parquet", "plain.parquet"})
    EXPECT_EQ(read("mine/" + std::string(name)), hub_.files[name]) << name;
  EXPECT_FALSE(exists("mine/data/deeper"));
  EXPECT_FALSE(exists("mine/data/a.parquet.part"));
  EXPECT_FALSE(exists("mine/data/a.parquet.part.json"));
  EXPECT_EQ(told, (ordered_json{{"name", "mine"},
                                {"repository", "o/n"},
                                {"revision", "main"},
                                {"commit", hub_.commit},
                                {"folder", scratch_.path("mine")},
                                {"files", 4},
                                {"all_files", 4},
                                {"bytes", 105070},
                                {"fetched_files", 4},
                                {"fetched_bytes", 105070}}));
  // The last that is said of the progress is all of it.
  EXPECT_EQ(states_.back().fetched_bytes, 105070);
  EXPECT_EQ(states_.back().bytes_to_fetch, 105070);
  const auto asked = hub_.asked();
  EXPECT_EQ(asked[0].target, "/api/datasets/o/n/revision/main?expand=sha");
  EXPECT_EQ(asked[1].target, "/api/datasets/o/n/tree/" + hub_.commit + "?recursive=true&expand=false");
  EXPECT_EQ(hub_.asked_for_files()[1].target, "/datasets/o/n/resolve/" + hub_.commit + "/data/b%20c.parquet");
  EXPECT_EQ(asked[0].header("user-agent"), "zerostep");
  for (const Asked& one : asked) EXPECT_EQ(one.header("authorization") + one.header("range"), "");
  // Again: listed, and nothing more.
  EXPECT_EQ(fetch(entries)["fetched_files"], 0);
  EXPECT_EQ(hub_.asked_for_files().size(), 3U);
  // Without its record a file is known by its checksum.
  std::filesystem::remove(scratch_.path("mine/.fetched.jsonl"));
  EXPECT_EQ(fetch(entries)["fetched_files"], 0);
  EXPECT_EQ(hub_.asked_for_files().size(), 3U);
}

TEST_F(FetchFromHub, ACutAnswerIsGoneOnWith) {
  cut_files(2, 1500);
  fetch();
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  const auto asked = hub_.asked_for_files();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].header("range"), "");
  EXPECT_EQ(asked[1].header("range"), "bytes=1500-");
  EXPECT_EQ(asked[1].header("if-range"), FakeHub::etag(a()));
  EXPECT_EQ(asked[2].header("range"), "bytes=3000-");
  EXPECT_SAYS(said_, "breaks off");
  EXPECT_SAYS(said_, "(attempt 3 of 6)");
}

TEST_F(FetchFromHub, AttemptsEndAndTheNextCallGoesOn) {
  cut_files(6, 700);
  const std::string text = failure();
  EXPECT_SAYS(text, "after 6 attempts");
  EXPECT_SAYS(text, "goes on from what is here");
  EXPECT_EQ(read("mine/data/a.parquet.part"), a().substr(0, 4200));
  EXPECT_FALSE(exists("mine/data/a.parquet"));
  EXPECT_EQ(fetch()["fetched_bytes"], 800);
  EXPECT_EQ(hub_.asked_for_files().back().header("range"), "bytes=4200-");
  EXPECT_SAYS(said_, "'data/a.parquet' goes on behind its first 4.10 KiB");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, APartOfOtherContentStartsAnew) {
  // Of another version on the hub.
  write("mine/data/a.parquet.part", a().substr(0, 1000));
  write("mine/data/a.parquet.part.json", json{{"checksum", FakeHub::sha256("other")}, {"etag", FakeHub::etag("other")}}.dump());
  fetch();
  EXPECT_EQ(hub_.asked_for_files().back().header("range"), "");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  // Damaged here: the checksum shows it.
  std::filesystem::remove_all(scratch_.path("mine"));
  write("mine/data/a.parquet.part", std::string(1000, 'x'));
  write("mine/data/a.parquet.part.json", json{{"checksum", FakeHub::sha256(a())}, {"etag", FakeHub::etag(a())}}.dump());
  fetch();
  EXPECT_SAYS(said_, "what was here of it is damaged");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  // Known by another ETag to the server that holds it now, which therefore sends all of it.
  std::filesystem::remove_all(scratch_.path("mine"));
  write("mine/data/a.parquet.part", a().substr(0, 1000));
  write("mine/data/a.parquet.part.json", json{{"checksum", FakeHub::sha256(a())}, {"etag", "\"old\""}}.dump());
  EXPECT_EQ(fetch()["fetched_bytes"], 5000);
  EXPECT_EQ(hub_.asked_for_files().back().header("if-range"), "\"old\"");
  EXPECT_SAYS(said_, "starts anew: its server sends all of it, not what follows the first 1000 B");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, AServerThatKnowsNoRangesOrWrongOnes) {
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos) return;
    reply = {.body = a()};  // no ETag either
    if (changed_++ == 0) reply.most_bytes = 2000;
  };
  fetch();
  EXPECT_EQ(hub_.asked_for_files()[1].header("range"), "bytes=2000-");
  EXPECT_EQ(hub_.asked_for_files()[1].header("if-range"), "");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  // Other bytes than those that were asked for: once more without a range.
  std::filesystem::remove_all(scratch_.path("mine"));
  changed_ = 0;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos) return;
    if (changed_++ == 0) reply.most_bytes = 2000;
    for (auto& [name, value] : reply.headers)
      if (name == "Content-Range") value = "bytes 1-4999/5000";
  };
  fetch();
  EXPECT_SAYS(said_, "answers with 'bytes 1-4999/5000' where bytes from 2000 on of 5000 were asked for");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  // Another length than the listing's, twice.
  std::filesystem::remove_all(scratch_.path("mine"));
  answer_files(100, {.body = "<html>log in</html>"});
  EXPECT_SAYS(failure(), "sends 19 bytes where its listing says 5000");
  EXPECT_FALSE(exists("mine/data/a.parquet"));
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

TEST_F(FetchFromHub, TheTokenGoesToTheHubAlone) {
  LoopbackServer store([&](const Asked& asked) { return FakeHub::file_reply(asked, a()); });
  settings_.token = "hf_secret";
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") != std::string::npos) {
      // Renamed, then moved to where large files lie; the answer of the hub names the content, not the store's own ETag.
      const bool is_renamed = asked.target.starts_with("/datasets/o/n/");
      reply = {.status = is_renamed ? 307 : 302,
               .headers = {{"Location", is_renamed ? "/datasets/new" + asked.target.substr(13) : store.url() + "/blob?signed=1"},
                           {"X-Linked-Etag", '"' + FakeHub::sha256(a()) + '"'}},
               .body = "moved"};
    }
  };
  fetch();
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  ASSERT_EQ(store.asked().size(), 1U);
  EXPECT_EQ(store.asked()[0].target, "/blob?signed=1");
  EXPECT_EQ(store.asked()[0].header("authorization"), "");
  ASSERT_EQ(hub_.asked_for_files().size(), 2U);
  EXPECT_EQ(hub_.asked_for_files()[1].target, "/datasets/new/resolve/" + hub_.commit + "/data/a.parquet");
  for (const Asked& asked : hub_.asked()) EXPECT_EQ(asked.header("authorization"), "Bearer hf_secret") << asked.target;
}

TEST_F(FetchFromHub, RedirectsAreFollowedWithRangesAndNotForEver) {
  bool is_cut = true;
  LoopbackServer store([&](const Asked& asked) {
    Reply reply = FakeHub::file_reply(asked, a());
    if (std::exchange(is_cut, false)) reply.most_bytes = 900;
    return reply;
  });
  std::string to = store.url() + "/blob";
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") != std::string::npos) reply = {.status = 302, .headers = {{"Location", to}}};
  };
  fetch();
  ASSERT_EQ(store.asked().size(), 2U);
  EXPECT_EQ(store.asked()[1].header("range"), "bytes=900-");
  EXPECT_EQ(store.asked()[1].header("if-range"), FakeHub::etag(a()));
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  std::filesystem::remove_all(scratch_.path("mine"));
  const size_t before = hub_.asked_for_files().size();
  to = hub_.url() + "/datasets/o/n/resolve/again";
  EXPECT_SAYS(failure(), "the last of 10 redirects");
  EXPECT_EQ(hub_.asked_for_files().size(), before + 11);
  to = "file:///etc/passwd";
  EXPECT_SAYS(failure(), "redirects to file:///etc/passwd");
}

TEST_F(FetchFromHub, ListingsOfSeveralPagesAreRead) {
  for (int i = 0; i < 25; ++i) hub_.files["data/" + std::to_string(i) + ".parquet"] = std::to_string(i);
  hub_.page_size = 10;
  EXPECT_EQ(fetch()["files"], 26);
  std::vector<std::string> pages;
  for (const Asked& asked : hub_.asked())
    if (asked.target.find("/tree/") != std::string::npos) pages.push_back(asked.target.substr(asked.target.find('?')));
  EXPECT_EQ(pages, (std::vector<std::string>{"?recursive=true&expand=false", "?recursive=true&cursor=10", "?recursive=true&cursor=20"}));
  for (int i = 0; i < 25; ++i) EXPECT_EQ(read("mine/data/" + std::to_string(i) + ".parquet"), std::to_string(i));
}

TEST_F(FetchFromHub, ABusyHubIsWaitedForAsItAsks) {
  answer_files(1, {.status = 429, .headers = {{"Retry-After", "1"}}});
  const auto start = std::chrono::steady_clock::now();
  fetch();
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(hub_.asked_for_files().size(), 2U);
  EXPECT_SAYS(said_, "answers 429 (too many requests); again in 1.0 s (attempt 2 of 6)");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, AttemptsAtABusyHubHaveAnEnd) {
  hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = 429}; };
  const std::string text = failure();
  EXPECT_EQ(hub_.asked().size(), 6U);
  for (const char* part : {"429 (too many requests)", "after 6 attempts", "set HF_TOKEN to one of yours", "goes on from what is here"})
    EXPECT_SAYS(text, part);
  EXPECT_FALSE(exists("mine"));
  // Longer than anybody waits, in seconds or as a time.
  for (const char* pause : {"4000", "Fri, 01 Jan 2100 00:00:00 GMT"}) {
    hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = 429, .headers = {{"Retry-After", pause}}}; };
    const size_t before = hub_.asked().size();
    EXPECT_SAYS(failure(), "after 1 attempt, and asks to wait ");
    EXPECT_EQ(hub_.asked().size(), before + 1);
  }
  hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = 429, .headers = {{"RateLimit", "\"resolvers\";r=0;t=301"}}}; };
  EXPECT_SAYS(failure(), "after 1 attempt, and asks to wait 5:01");
  // A time that is over is no pause; a server's error passes.
  hub_.change = [&](const Asked&, Reply& reply) {
    if (changed_++ < 3) reply = {.status = 503, .headers = {{"Retry-After", "Thu, 01 Jan 2015 00:00:00 GMT"}}};
  };
  fetch();
  EXPECT_SAYS(said_, "answers 503 (not available); again in 0.0 s");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, RefusalsSayWhatToDo) {
  for (const int status : {401, 403}) {
    hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = status, .headers = {{"X-Error-Message", "terms first"}}}; };
    const size_t before = hub_.asked().size();
    const std::string text = failure();
    for (const std::string& part :
         {std::to_string(status), std::string("HF_TOKEN"), hub_.url() + "/datasets/o/n", std::string("(terms first)")})
      EXPECT_SAYS(text, part);
    EXPECT_EQ(hub_.asked().size(), before + 1);
    settings_.token = "hf_x";
    settings_.token_from = "HF_TOKEN";
    EXPECT_SAYS(failure(), "the token of HF_TOKEN was sent");
    settings_.token.clear();
  }
  hub_.change = nullptr;
  hub_.commit = std::string(40, 'd');
  const std::string missing = failure(entry({{"hub", "o/n"}, {"files", "data/*.txt"}}, "mine/data/*.txt"));
  EXPECT_SAYS(missing, "data set 'o/n' at revision 'main' has no file data/*.txt");
  hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = 404}; };
  const std::string unknown = failure(entry({{"hub", "o/n"}, {"files", "data/*.parquet"}, {"revision", "refs/pr/1"}}));
  EXPECT_SAYS(unknown, "answers 404 (not found) for data set 'o/n' at revision 'refs/pr/1'");
  EXPECT_SAYS(hub_.asked().back().target, "/revision/refs%2Fpr%2F1");
  hub_.change = [&](const Asked&, Reply& reply) { reply = {.body = "<html>"}; };
  EXPECT_SAYS(failure(), "something else than JSON");
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos) reply = {.body = R"([{"type": "file", "path": "a"}])"};
  };
  EXPECT_SAYS(failure(), "something else than a listing of files");
}

TEST_F(FetchFromHub, AHubThatIsNotThereIsNamedAtOnce) {
  {
    const LoopbackServer gone([](const Asked&) { return Reply(); });
    settings_.endpoint = gone.url();
  }
  settings_.is_endpoint_given = true;
  settings_.pause_seconds = 100;
  EXPECT_SAYS(failure(), settings_.endpoint + " cannot be reached");
  EXPECT_SAYS(failure(), "HF_ENDPOINT names this hub");
}

TEST_F(FetchFromHub, AStalledAnswerIsGivenUp) {
  settings_.limits.stall_seconds = 1;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos || changed_++ > 0) return;
    reply.most_bytes = 2000;
    reply.stalls = true;
  };
  fetch();
  EXPECT_EQ(hub_.asked_for_files()[1].header("range"), "bytes=2000-");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, DocumentsAreCountedInWholeFiles) {
  hub_.files.clear();
  // Called .json on the hub, and lines of objects all the same.
  for (const char* name : {"en/c4-0.json", "en/c4-1.json", "en/c4-2.json"}) {
    std::string& lines = hub_.files[name];
    for (int i = 0; i < 10; ++i) lines += json{{"text", name + std::to_string(i)}}.dump() + (i % 3 == 0 ? "\n\n" : "\n");
  }
  const json entries = entry({{"hub", "o/n"}, {"files", "en/c4-*.json"}}, "mine/en/c4-*.jsonl");
  const ordered_json some = fetch(entries, 15);
  EXPECT_EQ(some["rows"], 20);
  EXPECT_EQ(some["files"], 2);
  EXPECT_EQ(some["all_files"], 3);
  EXPECT_EQ(read("mine/en/c4-1.jsonl"), hub_.files["en/c4-1.json"]);
  EXPECT_FALSE(exists("mine/en/c4-2.jsonl"));
  EXPECT_EQ(fetch(entries, 20)["fetched_files"], 0);
  const ordered_json more = fetch(entries, 1000);
  EXPECT_EQ(more["rows"], 30);
  EXPECT_EQ(more["fetched_files"], 1);
}

TEST_F(FetchFromHub, WhatIsInTheWayIsNotTouched) {
  for (const std::string& mine : {std::string("mine"), std::string(5000, 'm')}) {
    write("mine/data/a.parquet", mine);
    EXPECT_SAYS(failure<InputError>(), "is here already, and is not the file 'data/a.parquet' of data set 'o/n'");
    EXPECT_EQ(read("mine/data/a.parquet"), mine);
  }
  std::filesystem::remove_all(scratch_.path("mine"));
  fetch();
  // A new version on the hub, in which a file has another name.
  const std::string first = a();
  hub_.files["data/b.parquet"] = "b";
  fetch();
  hub_.files["data/a.parquet"] = content_of(5000, 9);
  hub_.files.erase("data/b.parquet");
  hub_.commit = std::string(40, 'e');
  EXPECT_EQ(fetch()["fetched_files"], 1);
  EXPECT_NE(a(), first);
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  EXPECT_SAYS(said_, "'data/a.parquet' has changed on the hub");
  EXPECT_SAYS(said_, "mine/data/b.parquet' is here, is no longer in the data set");
}

TEST_F(FetchFromHub, WhatFindsNoRoomIsNotBegun) {
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos)
      reply.body = json{{{"type", "file"}, {"path", "data/a.parquet"}, {"size", int64_t{1} << 60}, {"oid", std::string(40, '0')}}}.dump();
  };
  EXPECT_SAYS(failure(), "1.00 EiB are to be fetched to " + scratch_.path("mine"));
  EXPECT_TRUE(hub_.asked_for_files().empty());
}

TEST_F(FetchFromHub, PathsThatLeadElsewhereAreNotFollowed) {
  hub_.files["data/../../evil.parquet"] = "evil";
  hub_.files["data/.hidden.parquet"] = "hidden";
  EXPECT_EQ(fetch()["files"], 1);
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
    fetched += fetch_data_set(from, request)["fetched_files"].get<int64_t>();
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

// Sets variables until it goes.
class Variables {
 public:
  void set(const std::string& name, const std::string& value) {
    const char* before = std::getenv(name.c_str());
    before_.emplace(name, before == nullptr ? std::optional<std::string>() : before);
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : before_) value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(FetchFromHub, AProxyOfTheEnvironmentIsAsked) {
  Variables variables;
  for (const char* name : {"no_proxy", "NO_PROXY", "all_proxy"}) variables.set(name, "");
  variables.set("http_proxy", hub_.url());
  settings_.endpoint = "http://hub.invalid";
  hub_.change = [&](const Asked& asked, Reply& reply) {
    // What a proxy is asked for is a whole address.
    const std::string& target = asked.target;
    if (!target.starts_with("http://hub.invalid/")) return;
    if (target.find("/revision/") != std::string::npos)
      reply = {.body = json{{"sha", hub_.commit}}.dump()};
    else if (target.find("/tree/") != std::string::npos)
      reply = {.body =
                   json{{{"type", "file"}, {"path", "data/a.parquet"}, {"size", 5000}, {"lfs", {{"oid", FakeHub::sha256(a())}}}}}.dump()};
    else
      reply = FakeHub::file_reply(asked, a());
  };
  fetch();
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  EXPECT_EQ(hub_.asked().size(), 3U);
}

TEST_F(FetchFromHub, TheEnvironmentNamesHubAndToken) {
  Variables variables;
  for (const char* name : {"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"}) variables.set(name, "");
  variables.set("XDG_CACHE_HOME", scratch_.path("cache"));
  HubSettings settings = hub_settings_of_environment();
  EXPECT_EQ(settings.endpoint, "https://huggingface.co");
  EXPECT_EQ(settings.token, "");
  EXPECT_EQ(settings.token_file, scratch_.path("cache/huggingface/token"));
  write("cache/huggingface/token", "hf_of_file\n");
  EXPECT_EQ(hub_settings_of_environment().token, "hf_of_file");
  write("home/token", "hf_of_home");
  variables.set("HF_HOME", scratch_.path("home"));
  settings = hub_settings_of_environment();
  EXPECT_EQ(settings.token, "hf_of_home");
  EXPECT_EQ(settings.token_from, scratch_.path("home/token"));
  variables.set("HF_TOKEN", " hf_of_variable\n");
  variables.set("HF_ENDPOINT", "http://mirror.example/hf//");
  settings = hub_settings_of_environment();
  EXPECT_EQ(settings.token, "hf_of_variable");
  EXPECT_EQ(settings.token_from, "HF_TOKEN");
  EXPECT_EQ(settings.endpoint, "http://mirror.example/hf");
  variables.set("HF_TOKEN", "hf_a\nX-Other: b");
  EXPECT_SAYS(message_of<InputError>([] { hub_settings_of_environment(); }), "the token of HF_TOKEN holds blanks");
  variables.set("HF_ENDPOINT", "mirror.example");
  EXPECT_SAYS(message_of<InputError>([] { hub_settings_of_environment(); }), "HF_ENDPOINT is 'mirror.example'");
}

}  // namespace
}  // namespace zerostep
