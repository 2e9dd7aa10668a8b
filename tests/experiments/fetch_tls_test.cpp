#include <gtest/gtest.h>

#include "tests/experiments/support/fetch_from_hub.h"
#include "tests/experiments/support/tls_front.h"

// Over https: certificates are those of authorities, and of the host.
namespace zerostep::testing {
namespace {

TEST_F(FetchFromHub, OverTlsFromWhomAnAuthorityKnows) {
  const TlsFront front(scratch_.path("."), "127.0.0.1", hub_.url());
  settings_.endpoint = front.url();
  settings_.token = "hf_secret";
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}) variables_.set(name, "");
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    Variables variables;
    variables.set(name, front.certificate());
    remove_all();
    EXPECT_EQ(fetch().fetched_bytes, 5000) << name;
    EXPECT_EQ(read("mine/data/a.parquet"), a()) << name;
  }
  for (const Asked& asked : hub_.asked()) EXPECT_EQ(asked.header("authorization"), "Bearer hf_secret");
  // Nobody knows it otherwise, and nothing is asked.
  remove_all();
  const size_t before = hub_.asked().size();
  const std::string text = failure();
  EXPECT_SAYS(text, front.url() + " cannot be trusted");
  EXPECT_SAYS(text, "CURL_CA_BUNDLE a file of further authorities");
  EXPECT_EQ(hub_.asked().size(), before);
}

TEST_F(FetchFromHub, ACertificateOfAnotherHostIsNotTrusted) {
  const TlsFront front(scratch_.path("."), "127.0.0.2", hub_.url());
  settings_.endpoint = front.url();
  variables_.set("CURL_CA_BUNDLE", front.certificate());
  EXPECT_SAYS(failure(), front.url() + " cannot be trusted");
  EXPECT_TRUE(hub_.asked().empty());
}

TEST_F(FetchFromHub, TlsIsNotLeftForHttp) {
  const TlsFront front(scratch_.path("."), "127.0.0.1", hub_.url());
  LoopbackServer store([&](const Asked& asked) { return FakeHub::file_reply(asked, a()); });
  settings_.endpoint = front.url();
  variables_.set("CURL_CA_BUNDLE", front.certificate());
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") != std::string::npos) reply = {.status = 302, .headers = {{"Location", store.url() + "/blob"}}};
  };
  EXPECT_SAYS(failure(), "it redirects to " + store.url() + "/blob, which is not followed");
  EXPECT_TRUE(store.asked().empty());
  // From http to https is followed.
  settings_.endpoint = hub_.url();
  hub_.change = [&](const Asked& asked, Reply& reply) {
    const bool is_first = asked.target.starts_with("/datasets/o/n/");
    if (is_first) reply = {.status = 302, .headers = {{"Location", front.url() + "/datasets/moved" + asked.target.substr(13)}}};
  };
  EXPECT_EQ(fetch().fetched_bytes, 5000);
  EXPECT_EQ(read("mine/data/a.parquet"), a());
}

}  // namespace
}  // namespace zerostep::testing
