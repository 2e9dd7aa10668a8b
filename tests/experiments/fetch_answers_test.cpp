#include <gtest/gtest.h>

#include <chrono>

#include "tests/experiments/support/fetch_from_hub.h"

// What the hub and the servers that it leads to do on the way of a file: cut, stall, redirect, refuse.
namespace zerostep::testing {
namespace {

TEST_F(FetchFromHub, ACutAnswerIsGoneOnWith) {
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos) return;
    // Servers of one file need not agree on its ETag: the checksum tells which content it is.
    reply.headers.emplace_back("ETag", '"' + std::to_string(changed_) + '"');
    if (changed_++ < 2) reply.most_bytes = 1500;
  };
  fetch();
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  const auto asked = hub_.asked_for_files();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].header("range"), "");
  EXPECT_EQ(asked[1].header("range"), "bytes=1500-");
  for (const Asked& one : asked) EXPECT_EQ(one.header("if-range"), "");
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
  EXPECT_EQ(fetch().fetched_bytes, 800);
  EXPECT_EQ(hub_.asked_for_files().back().header("range"), "bytes=4200-");
  EXPECT_SAYS(said_, "'data/a.parquet' goes on behind its first 4.10 KiB");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

TEST_F(FetchFromHub, AServerThatKnowsNoRangesOrWrongOnes) {
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos) return;
    reply = {.body = a()};
    if (changed_++ == 0) reply.most_bytes = 2000;
  };
  fetch();
  EXPECT_EQ(hub_.asked_for_files()[1].header("range"), "bytes=2000-");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  expect_progress_ends_at(2000 + 5000);
  // Other bytes than those that were asked for: once more without a range.
  remove_all();
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
  remove_all();
  changed_ = 0;
  write_part(a().substr(0, 2000), FakeHub::sha256(a()));
  answer_files(2, {.body = "<html>log in</html>"});
  EXPECT_SAYS(failure(), "sends 19 bytes where its listing says 5000");
  EXPECT_FALSE(exists("mine/data/a.parquet"));
  EXPECT_EQ(fetch().fetched_bytes, 3000);
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

// RFC 9110, 14.2: a server may send less of a range than what was asked for.
TEST_F(FetchFromHub, AServerMaySendAFewBytesAtATime) {
  write_part(a().substr(0, 500), FakeHub::sha256(a()));
  size_t most = 300;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (reply.status != 206) return;
    const size_t from = std::stoul(asked.header("range").substr(6));
    reply.body.resize(std::min(most, reply.body.size()));
    reply.headers = {{"Content-Range", "bytes " + std::to_string(from) + "-" + std::to_string(from + reply.body.size() - 1) + "/5000"}};
  };
  EXPECT_EQ(fetch().fetched_bytes, 4500);
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  EXPECT_EQ(hub_.asked_for_files().size(), 15U);
  EXPECT_EQ(hub_.asked_for_files()[14].header("range"), "bytes=4700-");
  EXPECT_EQ(said_, "'data/a.parquet' goes on behind its first 500 B\n");
  // Nothing at all has an end, which costs nothing of what is here.
  remove_all();
  write_part(a().substr(0, 500), FakeHub::sha256(a()));
  most = 0;
  EXPECT_SAYS(failure(), "sends no more than the first 500 of 5000 bytes, 6 times: the same command goes on from there");
  EXPECT_EQ(hub_.asked_for_files().size(), 15U + 6U);
  EXPECT_EQ(read("mine/data/a.parquet.part"), a().substr(0, 500));
}

TEST_F(FetchFromHub, AServerThatHasLessThanAPartIsAskedForAllOnce) {
  write_part(a().substr(0, 500), FakeHub::sha256(a()));
  answer_files(1, {.status = 416});
  EXPECT_EQ(fetch().fetched_bytes, 5000);
  EXPECT_SAYS(said_, "'data/a.parquet' starts anew: its server has nothing behind the first 500 bytes");
  EXPECT_EQ(hub_.asked_for_files()[0].header("range"), "bytes=500-");
  EXPECT_EQ(hub_.asked_for_files()[1].header("range"), "");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  expect_progress_ends_at(5000);
  remove_all();
  write_part(a().substr(0, 500), FakeHub::sha256(a()));
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") != std::string::npos) reply = {.status = 416};
  };
  EXPECT_SAYS(failure(), "has nothing behind the first 0 bytes: the file has changed meanwhile");
  EXPECT_EQ(hub_.asked_for_files().size(), 4U);
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
  EXPECT_EQ(read("mine/data/a.parquet"), a());
  remove_all();
  const size_t before = hub_.asked_for_files().size();
  to = hub_.url() + "/datasets/o/n/resolve/again";
  EXPECT_SAYS(failure(), "the last of 10 redirects");
  EXPECT_EQ(hub_.asked_for_files().size(), before + 11);
  to = "file:///etc/passwd";
  EXPECT_SAYS(failure(), "redirects to file:///etc/passwd");
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
  EXPECT_FALSE(exists("mine/data"));
  // Longer than anybody waits, in seconds or as a time.
  may_wait_ = false;
  for (const int status : {429, 503})
    for (const char* pause : {"4000", "Fri, 01 Jan 2100 00:00:00 GMT"}) {
      hub_.change = [&](const Asked&, Reply& reply) {
        reply = {.status = status, .headers = {{"Retry-After", pause}, {"X-Error-Message", "back soon"}}};
      };
      const size_t before = hub_.asked().size();
      const std::string refusal = failure();
      EXPECT_SAYS(refusal, "at revision 'main' (back soon), after 1 attempt, and asks to wait ");
      EXPECT_EQ(refusal.find("token") != std::string::npos, status == 429) << refusal;
      EXPECT_EQ(hub_.asked().size(), before + 1);
    }
  hub_.change = [&](const Asked&, Reply& reply) { reply = {.status = 429, .headers = {{"RateLimit", "\"resolvers\";r=0;t=301"}}}; };
  EXPECT_SAYS(failure(), "after 1 attempt, and asks to wait 5:01");
  may_wait_ = true;
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
}

TEST_F(FetchFromHub, RefusalsOfOtherHostsAreNotThoseOfTheHub) {
  int status = 403;
  LoopbackServer store([&](const Asked&) { return Reply{.status = status, .body = "<Code>Expired</Code>\n"}; });
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") != std::string::npos) reply = {.status = 302, .headers = {{"Location", store.url() + "/blob"}}};
  };
  // Addresses there are good for a while; the hub is asked for new ones.
  const std::string expired = failure();
  EXPECT_SAYS(expired, store.url() + " answers 403 (forbidden) for 'data/a.parquet'");
  EXPECT_SAYS(expired, "(<Code>Expired</Code>), after 6 attempts");
  EXPECT_EQ(expired.find("HF_TOKEN"), std::string::npos) << expired;
  EXPECT_EQ(hub_.asked_for_files().size(), 6U);
  status = 404;
  const std::string missing = failure();
  EXPECT_SAYS(missing, store.url() + " answers 404 (not found) for 'data/a.parquet'");
  EXPECT_SAYS(missing, "; " + hub_.url() + " redirects there: fetch again later");
  EXPECT_EQ(missing.find("catalogue"), std::string::npos) << missing;
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
  settings_.stall_seconds = 1;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos || changed_++ > 0) return;
    reply.most_bytes = 2000;
    reply.stalls = true;
  };
  const auto start = std::chrono::steady_clock::now();
  fetch();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));  // the server itself would end it after 20
  EXPECT_EQ(hub_.asked_for_files()[1].header("range"), "bytes=2000-");
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

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
  // One that cannot be read is not none.
  variables.set("HF_TOKEN_PATH", scratch_.path("home"));
  EXPECT_SAYS(message_of<InputError>([] { hub_settings_of_environment(); }), "cannot read the token in '" + scratch_.path("home") + "'");
  variables.set("HF_TOKEN_PATH", scratch_.path("home/token/none"));
  EXPECT_EQ(hub_settings_of_environment().token, "");
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
}  // namespace zerostep::testing
