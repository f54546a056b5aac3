#include "admin_client.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>

#include "admin_key.hpp"
#include "conclave/http/server.hpp"
#include "state_directory.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using testing::HasSubstr;
namespace fs = std::filesystem;
namespace json = boost::json;

class AdminClientTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "conclave-admin-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    state_ = name;
    auto server = http::Server::start({}, [this](std::shared_ptr<http::Exchange> exchange) {
      const std::lock_guard lock(mutex_);
      seen_.push_back(exchange->request());
      exchange->respond(answer_(exchange->request()));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(state_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  AdminClient client(const std::string& key = "secret") const {
    return AdminClient::open({url() + "/", key, state_.string()}).value();
  }
  void write_key(const std::string& text) const { std::ofstream(state_ / kAdminKeyFile) << text; }
  void answer(unsigned status, const std::string& body) {
    answer_ = [status, body](const http::Request&) {
      http::Response response;
      response.status = status;
      response.body = body;
      return response;
    };
  }

  fs::path state_;
  std::mutex mutex_;  // guards seen_
  std::vector<http::Request> seen_;
  std::function<http::Response(const http::Request&)> answer_ = [](const http::Request&) {
    return http::Response{.headers = {{"ETag", "\"7\""}, {"x-conclave-stale", "true"}},
                          .body = R"({"name":"qwen"})"};
  };
  std::unique_ptr<http::Server> server_;
};

TEST_F(AdminClientTest, SendsWhoAsksWhatAndOnWhichCondition) {
  const auto answer = client().call({.method = "PUT",
                                     .path = admin_path({"models", "a/b?c", "aliases", "x"}),
                                     .query = {{"dry_run", "true"}, {"q", "a&b c"}, {"none", ""}},
                                     .body = json::object{{"version", 3}},
                                     .if_match = "\"6\""});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body, json::value({{"name", "qwen"}}));
  EXPECT_EQ(answer->etag, "\"7\"");
  EXPECT_TRUE(answer->stale);
  ASSERT_EQ(seen_.size(), 1U);
  EXPECT_EQ(seen_[0].method, "PUT");
  EXPECT_EQ(seen_[0].path, "/admin/v1/models/a%2Fb%3Fc/aliases/x");
  EXPECT_EQ(seen_[0].query, "dry_run=true&q=a%26b%20c");
  EXPECT_EQ(seen_[0].body, R"({"version":3})");
  EXPECT_EQ(seen_[0].header("Authorization"), "Bearer secret");
  EXPECT_EQ(seen_[0].header("If-Match"), "\"6\"");
}

TEST_F(AdminClientTest, NamesAnActionAfterItsRecord) {
  EXPECT_EQ(admin_path({"workers", "w:1"}, ":drain"), "/admin/v1/workers/w%3A1:drain");
  EXPECT_EQ(admin_path({}), "/admin/v1");
}

TEST_F(AdminClientTest, ARefusalIsAnErrorThatSaysWhatTheServerSays) {
  const std::vector<std::pair<unsigned, ErrorCode>> expected{
      {400, ErrorCode::kInvalidArgument},    {401, ErrorCode::kFailedPrecondition},
      {403, ErrorCode::kFailedPrecondition}, {404, ErrorCode::kNotFound},
      {405, ErrorCode::kInvalidArgument},    {409, ErrorCode::kFailedPrecondition},
      {412, ErrorCode::kFailedPrecondition}, {429, ErrorCode::kOverloaded},
      {500, ErrorCode::kInternal},           {503, ErrorCode::kUnavailable},
      {504, ErrorCode::kDeadlineExceeded}};
  for (const auto& [status, code] : expected) {
    answer(status, R"({"error":{"message":"no, thanks"}})");
    const auto got = client().get(admin_path({"models"}));
    ASSERT_FALSE(got) << status;
    EXPECT_EQ(got.error().code, code) << status;
    EXPECT_THAT(got.error().message, HasSubstr("no, thanks"));
  }
}

TEST_F(AdminClientTest, WithoutAKeyARefusalSaysHowToGiveOne) {
  answer(401, R"({"error":{"message":"no key"}})");
  EXPECT_THAT(client("").get("/x").error().message, HasSubstr("CONCLAVE_ADMIN_KEY"));
  EXPECT_THAT(client().get("/x").error().message, Not(HasSubstr("CONCLAVE_ADMIN_KEY")));
}

TEST_F(AdminClientTest, WhatIsNoJsonIsAnError) {
  for (const std::string body : {"{", "<html>"}) {
    answer(200, body);
    EXPECT_EQ(client().get("/x").error().code, ErrorCode::kCorruptData);
  }
  answer(200, "");
  EXPECT_TRUE(client().get("/x")->body.is_null());
}

TEST_F(AdminClientTest, PutsPagesTogether) {
  answer_ = [](const http::Request& request) {
    const auto after = http::Response{.body = request.query.find("after=b") != std::string::npos
                                                  ? R"({"data":["c"],"next":null})"
                                                  : R"({"data":["a","b"],"next":"b"})"};
    return after;
  };
  EXPECT_EQ(client().list("/x", {{"limit", "2"}}, 10).value(), (json::array{"a", "b", "c"}));
  EXPECT_EQ(client().list("/x", {}, 2).value(), (json::array{"a", "b"}));
  answer_ = [](const http::Request& request) {
    return http::Response{.body = request.query == "before=2" ? R"({"data":[1],"next":null})"
                                                              : R"({"data":[3,2],"next":2})"};
  };
  EXPECT_EQ(json::serialize(client().list("/x", {}, 10, nullptr, "before").value()), "[3,2,1]");
}

TEST_F(AdminClientTest, PagesThatLeadNowhereAreAnError) {
  for (const std::string body : {R"({"data":[],"next":"b"})", R"({"data":7})", "[]"}) {
    answer(200, body);
    EXPECT_EQ(client().list("/x", {}, 10).error().code, ErrorCode::kCorruptData) << body;
  }
}

TEST_F(AdminClientTest, FindsTheAddressOfUpAndItsKey) {
  EXPECT_EQ(AdminClient::open({"", "", state_.string()}).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(write_addresses(state_, {url(), "tcp://127.0.0.1:1", "keys"}));
  write_key("sk-conclave-x\n");
  const auto found = AdminClient::open({"", "", state_.string()});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->url(), url());
  ASSERT_TRUE(found->get("/x"));
  EXPECT_EQ(seen_.back().header("Authorization"), "Bearer sk-conclave-x");
}

TEST_F(AdminClientTest, AKeyFileThatIsNoneIsAnError) {
  const std::vector<std::string> bad = {"", "\n", "two words", "a\nb", std::string(400, 'x')};
  for (const std::string& text : bad) {
    write_key(text);
    EXPECT_EQ(AdminClient::open({url(), "", state_.string()}).error().code, ErrorCode::kCorruptData)
        << text;
  }
}

TEST_F(AdminClientTest, AKeyThatIsMadeIsForThisUserAndStays) {
  const fs::path made = state_ / "deeper";
  const auto path = ensure_admin_key(made);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(fs::status(*path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  const auto secret = read_admin_key(made);
  ASSERT_TRUE(secret) << secret.error().message;
  EXPECT_THAT(*secret, testing::StartsWith("sk-conclave-"));
  ASSERT_TRUE(ensure_admin_key(made));
  EXPECT_EQ(read_admin_key(made).value(), *secret);
  EXPECT_EQ(std::distance(fs::directory_iterator(made), {}), 1) << "nothing else is left";
  EXPECT_FALSE(ensure_admin_key("/proc/nowhere"));
}

TEST_F(AdminClientTest, TheKeyOfThisMachineGoesNowhereElse) {
  write_key("not a secret");  // so that it is seen whether it is read
  for (const std::string url : {"http://127.0.0.1", "http://localhost:1", "http://[::1]:80/",
                                "https://127.9.9.9", "http://user@127.0.0.1"}) {
    EXPECT_FALSE(AdminClient::open({url, "", state_.string()})) << url;
  }
  for (const std::string url :
       {"http://example.com", "http://127.0.0.1.example.com", "http://127.0.0.1@example.com",
        "http://example.com/127.0.0.1", "http://10.0.0.1", "http://example.com#@127.0.0.1"}) {
    EXPECT_TRUE(AdminClient::open({url, "", state_.string()})) << url;
  }
}

TEST(CellTest, ShowsScalarsAndListsOfThem) {
  const json::value record =
      json::parse(R"({"a":"x\ny","n":3,"t":true,"l":["p",1],"o":{"in":1.5},"z":null})");
  EXPECT_EQ(cell(record, "/a"), "x?y");
  EXPECT_EQ(cell(record, "/n"), "3");
  EXPECT_EQ(cell(record, "/t"), "true");
  EXPECT_EQ(cell(record, "/l"), "p, 1");
  EXPECT_EQ(cell(record, "/o/in"), "1.5E0");
  for (const char* nothing : {"/o", "/z", "/missing/in"}) EXPECT_EQ(cell(record, nothing), "");
}

}  // namespace
}  // namespace conclave::cli
