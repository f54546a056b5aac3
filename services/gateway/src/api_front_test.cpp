#include "api_front.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "conclave/wire/limits.hpp"
#include "key_book.hpp"
#include "testing_exchange.hpp"

namespace conclave::gateway {
namespace {

using gateway::testing::FakeExchange;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

const std::string kBody = R"({"model":"demo","prompt":"hi"})";

class FakeBackend final : public Backend {
 public:
  void submit(Submission submission) override { submissions.push_back(std::move(submission)); }
  void client_gone(RequestId request) override { gone.push_back(request); }
  void tokenize(TokenizeCall call) override { tokenizes.push_back(std::move(call)); }
  void detokenize(DetokenizeCall call) override { detokenizes.push_back(std::move(call)); }
  void administer(AdminCall call) override { administered.push_back(std::move(call)); }

  std::vector<Submission> submissions;
  std::vector<RequestId> gone;
  std::vector<TokenizeCall> tokenizes;
  std::vector<DetokenizeCall> detokenizes;
  std::vector<AdminCall> administered;
};

class ApiFrontTest : public ::testing::Test {
 protected:
  ApiFrontTest() { status_.set({{"org/demo", "fp_1", 17}}, {}); }

  std::shared_ptr<FakeExchange> send(std::string method, std::string path, std::string body = {},
                                     std::vector<http::Header> headers = {}) {
    auto client = std::make_shared<FakeExchange>(http::Request{.method = std::move(method),
                                                               .path = std::move(path),
                                                               .headers = std::move(headers),
                                                               .body = std::move(body)});
    front_.handle(client);
    return client;
  }

  static boost::json::value json(const FakeExchange& client) {
    return boost::json::parse(client.answer->body);
  }

  telemetry::Metrics registry_;
  GatewayMetrics metrics_{registry_};
  GatewayStatus status_;
  FakeBackend backend_;
  const std::shared_ptr<Admission> admission_ = Admission::create(2);
  ApiFront front_{{backend_, *admission_, metrics_, status_,
                   [next = std::uint64_t{1}]() mutable { return next++; },
                   [] { return std::chrono::steady_clock::time_point(std::chrono::seconds(9)); },
                   [this] { return registry_.expose(); }, "1.2.3"}};
};

TEST_F(ApiFrontTest, AsksForAKeyWhereOneIsRequired) {
  ApiFront strict{{backend_,
                   *admission_,
                   metrics_,
                   status_,
                   [] { return 1; },
                   [] { return std::chrono::steady_clock::time_point(); },
                   {},
                   "1.2.3",
                   true}};
  const auto ask = [&](std::vector<http::Header> headers) {
    auto client = std::make_shared<FakeExchange>(http::Request{
        .method = "POST", .path = "/v1/completions", .headers = std::move(headers), .body = kBody});
    strict.handle(client);
    return client;
  };

  const auto refused = ask({});
  ASSERT_TRUE(refused->answer);
  EXPECT_EQ(refused->answer->status, 401u);
  EXPECT_EQ(http::find_header(refused->answer->headers, "WWW-Authenticate"), "Bearer");
  EXPECT_THAT(backend_.submissions, SizeIs(0));

  EXPECT_FALSE(ask({{"Authorization", "Bearer sk-1"}})->answer);
  ASSERT_THAT(backend_.submissions, SizeIs(1));
  EXPECT_EQ(backend_.submissions[0].key, secret_sum("sk-1"));
}

TEST_F(ApiFrontTest, HandsRequestsOver) {
  const auto client =
      send("POST", "/v1/completions", kBody,
           {{"content-type", "application/json"},
            {"X-Request-Id", "mine"},
            {"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}});

  ASSERT_THAT(backend_.submissions, SizeIs(1));
  const Submission& submission = backend_.submissions[0];
  EXPECT_FALSE(client->answer);
  EXPECT_EQ(submission.request.model, "demo");
  EXPECT_EQ(submission.call.request_id(), "mine");
  EXPECT_EQ(submission.call.arrived().time_since_epoch(), std::chrono::seconds(9));
  EXPECT_EQ(submission.trace.trace_id[0], 0x0A);
  EXPECT_THAT(submission.answer_id, StartsWith("cmpl-0000"));
  EXPECT_EQ(admission_->open(), 1u);

  client->close();
  EXPECT_THAT(backend_.gone, ::testing::ElementsAre(submission.id));
}

TEST_F(ApiFrontTest, EveryRequestHasItsOwnIds) {
  const std::string chat = R"({"model":"demo","messages":[{"role":"user","content":"hi"}]})";
  send("POST", "/v1/chat/completions", chat);
  send("POST", "/v1/chat/completions", chat, {{"X-Request-Id", "not good"}});
  ASSERT_THAT(backend_.submissions, SizeIs(2));
  const Submission& first = backend_.submissions[0];
  const Submission& second = backend_.submissions[1];
  EXPECT_NE(first.id, second.id);
  EXPECT_NE(first.answer_id, second.answer_id);
  EXPECT_THAT(first.answer_id, StartsWith("chatcmpl-"));
  EXPECT_NE(first.call.request_id(), second.call.request_id());
  EXPECT_THAT(second.call.request_id(), SizeIs(32));
  EXPECT_TRUE(first.trace.empty());
}

TEST_F(ApiFrontTest, ASessionIsTheHeadersOrTheUser) {
  const std::string body = R"({"model":"demo","prompt":"hi","user":"u"})";
  send("POST", "/v1/completions", body);
  send("POST", "/v1/completions", body, {{"X-Session-Id", "s"}});
  ASSERT_THAT(backend_.submissions, SizeIs(2));
  EXPECT_EQ(backend_.submissions[0].request.session, "u");
  EXPECT_EQ(backend_.submissions[1].request.session, "s");
}

TEST_F(ApiFrontTest, AnswersBadBodiesItself) {
  const auto client = send("POST", "/v1/completions", "{", {{"X-Request-Id", "mine"}});
  EXPECT_EQ(client->answer->status, 400u);
  EXPECT_EQ(client->answer->header("X-Request-Id"), "mine");
  EXPECT_EQ(json(*client).at("error").at("type"), "invalid_request_error");
  EXPECT_EQ(json(*client).at("error").at("code"), "invalid_json");
  EXPECT_TRUE(json(*client).at("error").at("param").is_null());
  EXPECT_EQ(admission_->open(), 0u);

  const auto field = send("POST", "/v1/completions", R"({"model":"m","prompt":"a","n":0})");
  EXPECT_EQ(json(*field).at("error").at("param"), "n");
}

TEST_F(ApiFrontTest, TakesJsonOnly) {
  const auto client = send("POST", "/v1/completions", kBody, {{"Content-Type", "text/plain"}});
  EXPECT_EQ(client->answer->status, 415u);
  EXPECT_THAT(backend_.submissions, SizeIs(0));
}

TEST_F(ApiFrontTest, KnowsItsPathsAndTheirMethods) {
  struct Case {
    std::string method;
    std::string path;
    unsigned status;
    std::string allow;
  };
  for (const Case& each : std::vector<Case>{
           {"GET", "/health", 200, ""},
           {"HEAD", "/health", 200, ""},
           {"GET", "/ready", 200, ""},
           {"GET", "/version", 200, ""},
           {"GET", "/metrics", 200, ""},
           {"GET", "/v1/models", 200, ""},
           {"POST", "/health", 405, "GET, HEAD"},
           {"DELETE", "/v1/models", 405, "GET, HEAD"},
           {"GET", "/v1/chat/completions", 405, "POST"},
           {"PUT", "/v1/completions", 405, "POST"},
           {"GET", "/tokenize", 405, "POST"},
           {"GET", "/", 404, ""},
           {"GET", "/v1", 404, ""},
           {"POST", "/v1/embeddings", 404, ""},
           {"GET", "/v1/chat/completions/", 404, ""},
           {"OPTIONS", "*", 404, ""},
       }) {
    const auto client = send(each.method, each.path);
    ASSERT_TRUE(client->answer) << each.path;
    EXPECT_EQ(client->answer->status, each.status) << each.method << " " << each.path;
    EXPECT_EQ(client->answer->header("Allow"), each.allow);
    EXPECT_FALSE(client->answer->header("X-Request-Id").empty());
    if (each.status != 200) {
      EXPECT_TRUE(json(*client).at("error").is_object());
    }
  }
}

TEST_F(ApiFrontTest, ListsTheModel) {
  const auto list = send("GET", "/v1/models");
  EXPECT_EQ(json(*list),
            boost::json::parse(R"({"object":"list","data":[{"id":"org/demo","object":"model",)"
                               R"("created":17,"owned_by":"conclave"}]})"));
  status_.set({}, {});
  EXPECT_EQ(json(*send("GET", "/v1/models")).at("data").as_array().size(), 0u);
}

TEST_F(ApiFrontTest, FindsTheModelByItsName) {
  for (const char* const path : {"/v1/models/org/demo", "/v1/models/org%2Fdemo"}) {
    const auto one = send("GET", path);
    EXPECT_EQ(one->answer->status, 200u);
    EXPECT_EQ(json(*one).at("id"), "org/demo");
  }
  for (const char* const path : {"/v1/models/other", "/v1/models/", "/v1/models/%zz"}) {
    const auto none = send("GET", path);
    EXPECT_EQ(none->answer->status, 404u) << path;
    EXPECT_EQ(json(*none).at("error").at("code"), "model_not_found");
  }
}

TEST_F(ApiFrontTest, SaysWhyItIsNotReady) {
  status_.set({}, base::fail(base::ErrorCode::kUnavailable, "loading"));
  const auto client = send("GET", "/ready");
  EXPECT_EQ(client->answer->status, 503u);
  EXPECT_EQ(client->answer->body, R"({"ready":false,"reason":"loading"})");
  EXPECT_EQ(send("GET", "/health")->answer->status, 200u);
}

TEST_F(ApiFrontTest, ADrainingGatewayTakesNothingNew) {
  front_.drain();
  EXPECT_THAT(send("GET", "/ready")->answer->body, HasSubstr("draining"));
  const auto client = send("POST", "/v1/completions", kBody);
  EXPECT_EQ(client->answer->status, 503u);
  EXPECT_EQ(client->answer->header("Retry-After"), "1");
  EXPECT_THAT(backend_.submissions, SizeIs(0));
}

TEST_F(ApiFrontTest, TakesNoMoreThanItMay) {
  send("POST", "/v1/completions", kBody);
  const auto two = send("POST", "/v1/completions", R"({"model":"demo","prompt":["a","b"]})");
  EXPECT_EQ(two->answer->status, 429u);  // one is free
  EXPECT_EQ(two->answer->header("Retry-After"), "1");
  EXPECT_EQ(json(*two).at("error").at("type"), "rate_limit_error");
  send("POST", "/v1/completions", kBody);
  EXPECT_EQ(send("POST", "/v1/completions", kBody)->answer->status, 429u);
  EXPECT_EQ(send("POST", "/tokenize", R"({"prompt":"a"})")->answer->status, 429u);
  EXPECT_EQ(send("POST", "/v1/completions", "{")->answer->status, 429u);  // not even looked at

  backend_.submissions.clear();  // they are over
  EXPECT_EQ(admission_->open(), 0u);
  EXPECT_FALSE(send("POST", "/v1/completions", kBody)->answer);
  const auto three = send("POST", "/v1/completions", R"({"model":"demo","prompt":["a","b","c"]})");
  EXPECT_EQ(three->answer->status, 400u);  // never fits
}

TEST_F(ApiFrontTest, HandsTokenizingOver) {
  send("POST", "/tokenize", R"({"prompt":"a","return_token_strs":true})");
  send("POST", "/detokenize", R"({"tokens":[1]})");
  ASSERT_THAT(backend_.tokenizes, SizeIs(1));
  EXPECT_TRUE(backend_.tokenizes[0].body.token_strings);
  ASSERT_THAT(backend_.detokenizes, SizeIs(1));
  EXPECT_EQ(admission_->open(), 2u);
  EXPECT_EQ(send("POST", "/detokenize", "{}")->answer->status, 429u);
}

TEST_F(ApiFrontTest, ShowsItsMetrics) {
  send("GET", "/nothing");
  const auto client = send("GET", "/metrics");
  EXPECT_THAT(client->answer->content_type, StartsWith("text/plain; version=0.0.4"));
  EXPECT_THAT(client->answer->body,
              HasSubstr(R"(conclave_gateway_http_requests_total{path="other",status="404"} 1)"));
}

TEST_F(ApiFrontTest, PassesAdministrationOnWithTheSumOfItsKey) {
  send("PUT", "/admin/v1/models/demo/aliases/production", R"({"version":1})",
       {{"Authorization", "Bearer sk-1"}, {"If-Match", "\"7\""}, {"X-Request-Id", "r-1"}});

  ASSERT_THAT(backend_.administered, SizeIs(1));
  const AdminCall& call = backend_.administered[0];
  EXPECT_EQ(call.request.method, "PUT");
  EXPECT_EQ(call.request.path, "/admin/v1/models/demo/aliases/production");
  EXPECT_EQ(call.request.body, R"({"version":1})");
  EXPECT_EQ(call.request.if_match, "\"7\"");
  EXPECT_EQ(call.request.request_id, "r-1");
  EXPECT_EQ(call.secret, secret_sum("sk-1"));
}

TEST_F(ApiFrontTest, RefusesAdministrationThatCannotBePassedOn) {
  const http::Header key{"Authorization", "Bearer sk-1"};
  EXPECT_EQ(send("GET", "/admin/v1/models")->answer->status, 401u);
  EXPECT_EQ(send("GET", "/admin/v1/models", "", {{"Authorization", "Basic x"}})->answer->status,
            401u);
  EXPECT_EQ(
      send("POST", "/admin/v1/models", "{}", {key, {"Content-Type", "text/xml"}})->answer->status,
      415u);
  EXPECT_EQ(send("POST", "/admin/v1/models", std::string(wire::kAdminBodyBytesMax + 1, ' '), {key})
                ->answer->status,
            413u);
  EXPECT_EQ(send("GET", "/admin/v1/" + std::string(wire::kAdminTargetBytesMax, 'a'), "", {key})
                ->answer->status,
            414u);
  EXPECT_EQ(send("GET", "/admin/v1/\xff", "", {key})->answer->status, 400u);
  EXPECT_THAT(backend_.administered, SizeIs(0));
}

TEST(AdminCallTest, KnowsWhatTheSchedulerOwns) {
  for (const char* path :
       {"experts", "experts/3/4:move", "workers", "placement", "placement:plan"}) {
    EXPECT_TRUE(is_schedulers("/admin/v1/" + std::string(path)));
  }
  for (const char* path : {"models", "expertsx", "keys", "", "audit"}) {
    EXPECT_FALSE(is_schedulers("/admin/v1/" + std::string(path)));
  }
}

}  // namespace
}  // namespace conclave::gateway
