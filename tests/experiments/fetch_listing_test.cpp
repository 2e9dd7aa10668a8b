#include <gtest/gtest.h>

#include "tests/experiments/support/fetch_from_hub.h"

// What a hub lists.
namespace zerostep::testing {
namespace {

TEST_F(FetchFromHub, ListingsOfSeveralPagesAreRead) {
  for (int i = 0; i < 25; ++i) hub_.files["data/" + std::to_string(i) + ".parquet"] = std::to_string(i);
  hub_.page_size = 10;
  EXPECT_EQ(fetch().num_files, 26);
  std::vector<std::string> pages;
  for (const Asked& asked : hub_.asked())
    if (asked.target.find("/tree/") != std::string::npos) pages.push_back(asked.target.substr(asked.target.find('?')));
  EXPECT_EQ(pages, (std::vector<std::string>{"?recursive=true&expand=false", "?recursive=true&cursor=10", "?recursive=true&cursor=20"}));
  for (int i = 0; i < 25; ++i) EXPECT_EQ(read("mine/data/" + std::to_string(i) + ".parquet"), std::to_string(i));
}

// A mirror's listings lead on to the hub that it mirrors, and relative addresses are addresses too (RFC 8288).
TEST_F(FetchFromHub, PagesAreAskedOfTheHubItself) {
  LoopbackServer other([](const Asked&) { return Reply{.body = "[]"}; });
  for (int i = 0; i < 25; ++i) hub_.files["data/" + std::to_string(i) + ".parquet"] = std::to_string(i);
  hub_.page_size = 10;
  for (const std::string& before : {other.url() + "/api/datasets/o/n/tree/main", std::string("/elsewhere"), std::string()}) {
    hub_.change = [&](const Asked&, Reply& reply) {
      for (auto& [name, value] : reply.headers)
        if (name == "Link") value = "<" + before + value.substr(value.find('?'));
    };
    remove_all();
    EXPECT_EQ(fetch().num_files, 26) << before;
  }
  EXPECT_TRUE(other.asked().empty());
}

TEST_F(FetchFromHub, ListingsHaveAnEnd) {
  std::string link;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos) reply = {.headers = {{"Link", "<" + link + ">; rel=\"next\""}}, .body = "[]"};
  };
  for (const auto& [to, pages] : {std::pair("?recursive=true&expand=false", 1U), {"?cursor=1", 2U}}) {
    link = to;
    const size_t before = hub_.asked().size();
    EXPECT_SAYS(failure(), "answers something else than a listing of files: its next page is one before it");
    EXPECT_EQ(hub_.asked().size(), before + 1 + pages);
  }
  link = "/api/datasets/o/n/tree/2";
  EXPECT_SAYS(failure(), "its next page is '/api/datasets/o/n/tree/2', an address without a query");
}

TEST_F(FetchFromHub, ListingsThatCannotBeAreRefused) {
  const auto file = [](const json& size, const std::string& path = "data/a.parquet") {
    return json{{"type", "file"}, {"path", path}, {"size", size}, {"oid", std::string(40, '0')}};
  };
  json listing;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos) reply.body = listing.dump();
  };
  constexpr int64_t kPebibyte = int64_t{1} << 50;
  for (const json& wrong :
       {json::array({file(INT64_MAX)}), json::array({file(-1)}), json::array({file(UINT64_MAX)}),
        json::array({file(kPebibyte), file(1, "data/b.parquet")}), json::array({file("5000")}), json::array({file(1e300)}),
        json::array({{{"type", "file"}, {"path", "data/a.parquet"}, {"size", 5}, {"oid", "abc"}}}), json("text")}) {
    listing = wrong;
    EXPECT_SAYS(failure(), "answers something else than a listing of files") << wrong;
  }
  // What is not of the data set may be anything.
  listing = json::array({file(5000), file(INT64_MAX, "other.bin")});
  listing[0]["lfs"] = {{"oid", FakeHub::sha256(a())}, {"size", 5000}};
  EXPECT_EQ(fetch().all_files, 1);
  hub_.change = [](const Asked& asked, Reply& reply) {
    if (asked.target.find("/tree/") != std::string::npos) reply.body = std::string(size_t{17} << 20, ' ');
  };
  EXPECT_SAYS(failure(), "it has no end");
}

TEST_F(FetchFromHub, AHubSaysWhichCommitARevisionIs) {
  for (const char* about : {R"({"id": "o/n"})", R"({"sha": ""})", R"({"sha": 3})"}) {
    hub_.change = [&](const Asked&, Reply& reply) { reply = {.body = about}; };
    EXPECT_SAYS(failure(), "does not say which commit revision 'main' of data set 'o/n' is");
  }
  hub_.change = [](const Asked&, Reply& reply) { reply = {.body = "<html>"}; };
  EXPECT_SAYS(failure(), "something else than JSON");
}

}  // namespace
}  // namespace zerostep::testing
