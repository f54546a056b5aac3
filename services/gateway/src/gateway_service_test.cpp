// The whole service over HTTP, with real links to a scheduler and routers that do as they are told.
#include "conclave/gateway/gateway_service.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <future>
#include <thread>

#include "conclave/http/client.hpp"
#include "conclave/http/sse.hpp"
#include "testing_fleet.hpp"

namespace conclave::gateway {
namespace {

using gateway::testing::Events;
using gateway::testing::FakeRegistry;
using gateway::testing::FakeRouter;
using gateway::testing::FakeScheduler;
using gateway::testing::kPatience;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using wire::FinishReason;
using wire::TokenEvent;

TokenEvent token(std::int32_t id, std::string text, std::uint32_t choice = 0) {
  return {.choice = choice, .token = id, .text = std::move(text)};
}
TokenEvent end(FinishReason finish = FinishReason::kStop, std::uint32_t choice = 0) {
  return {.choice = choice, .finish = finish};
}

const std::string kStream = R"({"model":"demo","prompt":"go","stream":true})";
const std::string kWhole = R"({"model":"demo","prompt":"go"})";

/// A stream that a thread of its own reads.
class Reader {
 public:
  Reader(std::string url, std::string body) {
    done_ = std::async(std::launch::async, [this, url = std::move(url), body = std::move(body)] {
      http::SseParser parser;
      http::ClientRequest request{.method = "POST", .url = url, .body = body, .timeout = kPatience};
      request.headers = {{"Content-Type", "application/json"}};
      request.stop = stop_.get_token();
      return http::stream(request, [&](std::string_view chunk) {
        const auto parsed = parser.push(chunk);
        EXPECT_TRUE(parsed);
        for (const http::SseEvent& event : *parsed) events_.add(event.data);
        return true;
      });
    });
  }

  /// The next event, `[DONE]` among them.
  std::string next() { return events_.wait().value_or("nothing came"); }
  /// Its first choice's text.
  std::string next_text() {
    const auto event = boost::json::parse(next());
    return std::string(event.at("choices").at(0).at("text").as_string());
  }
  void abort() { stop_.request_stop(); }
  base::Result<http::Response> finish() { return done_.get(); }

 private:
  Events<std::string> events_;
  std::stop_source stop_;
  std::future<base::Result<http::Response>> done_;
};

class GatewayServiceTest : public ::testing::Test {
 protected:
  GatewayServiceTest() {
    settings_.gateway.port = 0;
    settings_.fleet.scheduler = {scheduler_.address()};
    settings_.gateway.registry = {};
    settings_.fleet.report_ms = 10;
    settings_.fabric.links.heartbeat_ms = 100;
    settings_.fabric.links.reconnect_ms = 10;
  }
  ~GatewayServiceTest() override {
    if (service_) service_->stop();
    service_.reset();
  }

  void start() {
    service_ = GatewayService::create(settings_, context_, {process_.get()}).value();
    const auto started = service_->start();
    ASSERT_TRUE(started) << started.error().to_string();
    url_ = "http://127.0.0.1:" + std::to_string(service_->port());
  }

  /// With one router, ready for requests.
  void start_ready() {
    scheduler_.set(fleet());
    start();
    ASSERT_TRUE(scheduler_.wait(wire::NodeState::kReady));
  }

  wire::Fleet fleet() {
    wire::Fleet fleet;
    fleet.models = {{.model = router_.status().report.models[0].model}};
    fleet.nodes = {router_.status()};
    return fleet;
  }

  http::Response call(const std::string& path, const std::string& body = {}) {
    http::ClientRequest request{.method = body.empty() ? "GET" : "POST",
                                .url = url_ + path,
                                .body = body,
                                .timeout = kPatience};
    request.headers = {{"Content-Type", "application/json"}, {"X-Request-Id", "mine"}};
    auto response = http::fetch(request);
    if (response) return std::move(*response);
    ADD_FAILURE() << path << ": " << response.error().to_string();
    return {};
  }

  std::future<http::Response> call_later(const std::string& path, const std::string& body) {
    return std::async(std::launch::async, [this, path, body] { return call(path, body); });
  }

  FakeRouter::Got next_got() {
    const auto got = requests_.wait();
    EXPECT_TRUE(got) << "no router got a request";
    return got.value_or(FakeRouter::Got{&router_, {}});
  }
  wire::Generate next_request() { return next_got().request; }

  telemetry::Metrics metrics_;
  std::unique_ptr<fleet::Process> process_ =
      fleet::Process::create({}, wire::NodeRole::kGateway, telemetry::Logger(), metrics_).value();
  FakeScheduler scheduler_{*process_};
  Events<FakeRouter::Got> requests_;  // of all routers
  FakeRouter router_{*process_, "router-a", requests_};
  app::ServiceContext context_{
      .log = telemetry::Logger(),
      .metrics = metrics_,
      .node_name = "gw",
      .version = "1.2.3",
      .admin_address = "127.0.0.1:1",
      .now = [] { return std::chrono::steady_clock::now(); },
      .wall_clock =
          [] { return std::chrono::system_clock::time_point(std::chrono::seconds(1700000000)); },
      .fail = [](base::Error) {},
      .is_stopping = [] { return false; }};
  GatewayService::Settings settings_;
  std::unique_ptr<GatewayService> service_;
  std::string url_;
};

TEST_F(GatewayServiceTest, IsAliveBeforeItIsReady) {
  start();
  EXPECT_EQ(call("/health").status, 200u);
  EXPECT_EQ(call("/ready").status, 503u);
  EXPECT_FALSE(service_->ready());
  const http::Response refused = call("/v1/completions", kWhole);
  EXPECT_EQ(refused.status, 503u);
  EXPECT_EQ(refused.header("Retry-After"), "1");

  scheduler_.set(fleet());
  const auto report = scheduler_.wait(wire::NodeState::kReady);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->role, wire::NodeRole::kGateway);
  EXPECT_EQ(report->admin_address, "127.0.0.1:1");
  EXPECT_EQ(call("/ready").status, 200u);
  EXPECT_TRUE(service_->ready());
  EXPECT_THAT(call("/v1/models").body, HasSubstr(R"("id":"demo")"));
  EXPECT_THAT(call("/version").body, HasSubstr("1.2.3"));
}

TEST_F(GatewayServiceTest, AnswersWhole) {
  start_ready();
  auto answer =
      call_later("/v1/chat/completions",
                 R"({"model":"demo","messages":[{"role":"user","content":"hi"}],"n":2,"seed":5})");
  const wire::Generate request = next_request();
  EXPECT_EQ(request.gateway, "gw");
  EXPECT_EQ(request.request_id, "mine");
  EXPECT_EQ(request.choices, 2u);
  EXPECT_EQ(request.sampling.seed, 5u);
  router_.say(request, {token(1, "He", 0), token(2, "Yo", 1)});
  router_.say(request, {token(3, "y", 0), end(FinishReason::kLength, 1), end()});

  const http::Response response = answer.get();

  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(response.header("X-Request-Id"), "mine");
  const auto body = boost::json::parse(response.body);
  EXPECT_EQ(body.at("created"), 1700000000);
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), "Hey");
  EXPECT_EQ(body.at("choices").at(1).at("message").at("content"), "Yo");
  EXPECT_EQ(body.at("choices").at(1).at("finish_reason"), "length");
  EXPECT_EQ(body.at("usage"),
            boost::json::parse(R"({"prompt_tokens":4,"completion_tokens":3,)"
                               R"("total_tokens":7,)"
                               R"("prompt_tokens_details":{"cached_tokens":0}})"));
}

TEST_F(GatewayServiceTest, StreamsEveryTokenAsItComes) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  const wire::Generate request = next_request();

  router_.say(request, {token(1, "a")});
  EXPECT_EQ(reader.next_text(), "a");  // before the next one is even made
  router_.say(request, {token(2, "é")});
  EXPECT_EQ(reader.next_text(), "é");
  router_.say(request, {end()});
  EXPECT_THAT(reader.next(), HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_EQ(reader.next(), "[DONE]");

  const auto response = reader.finish();
  ASSERT_TRUE(response);
  EXPECT_THAT(std::string(response->header("Content-Type")), HasSubstr("text/event-stream"));
  EXPECT_FALSE(response->header("X-Request-Id").empty());
}

TEST_F(GatewayServiceTest, AClientThatAbortsFreesTheRouter) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  const wire::Generate request = next_request();
  router_.say(request, {token(1, "a")});
  EXPECT_EQ(reader.next_text(), "a");

  reader.abort();

  const auto cancel = router_.cancels.wait();
  ASSERT_TRUE(cancel);
  EXPECT_EQ(cancel->stream, request.stream);
  EXPECT_EQ(cancel->gateway, "gw");
  EXPECT_FALSE(reader.finish());
}

TEST_F(GatewayServiceTest, AClientThatAbortsBeforeTheFirstTokenFreesTheRouter) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kWhole);
  const wire::Generate request = next_request();
  reader.abort();
  const auto cancel = router_.cancels.wait();
  ASSERT_TRUE(cancel);
  EXPECT_EQ(cancel->stream, request.stream);
}

TEST_F(GatewayServiceTest, ARouterThatGoesForGoodEndsItsStreamsWithAnError) {
  settings_.gateway.resume_timeout = std::chrono::milliseconds(0);
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  router_.say(next_request(), {token(1, "a")});
  EXPECT_EQ(reader.next_text(), "a");

  router_.stop();

  const auto error = boost::json::parse(reader.next()).at("error");
  EXPECT_EQ(error.at("code"), "upstream_lost");
  EXPECT_TRUE(reader.finish());  // the stream has its end
  ASSERT_TRUE(scheduler_.wait(wire::NodeState::kStarting));
  EXPECT_THAT(call("/ready").body, HasSubstr("no connection to router-a"));
}

TEST_F(GatewayServiceTest, AnotherRouterTakesOverWhatHasNotBegun) {
  start_ready();
  auto answer = call_later("/v1/completions", kWhole);
  EXPECT_EQ(next_got().router, &router_);
  FakeRouter second(*process_, "router-b", requests_);
  wire::Fleet both = fleet();
  both.nodes.push_back(second.status());
  scheduler_.set(both);
  // As soon as it is connected it has the least streams, and gets the next one.
  for (FakeRouter* taker = &router_; taker != &second;) {
    auto other = call_later("/v1/completions", kWhole);
    const FakeRouter::Got got = next_got();
    taker = got.router;
    taker->say(got.request, {token(2, "b"), end()});
    EXPECT_EQ(other.get().status, 200u);
  }

  router_.stop();

  const FakeRouter::Got moved = next_got();
  EXPECT_EQ(moved.router, &second);
  second.say(moved.request, {token(1, "moved"), end()});
  const http::Response response = answer.get();
  EXPECT_EQ(response.status, 200u);
  EXPECT_THAT(response.body, HasSubstr("moved"));
}

TEST_F(GatewayServiceTest, AStreamGoesOnWithARouterThatComesLater) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  router_.say(next_request(), {token(1, "a"), token(2, "b")});
  EXPECT_EQ(reader.next_text(), "ab");
  router_.stop();

  FakeRouter second(*process_, "router-b", requests_);
  wire::Fleet later = fleet();
  later.nodes = {second.status()};
  scheduler_.set(later);

  const FakeRouter::Got moved = next_got();
  EXPECT_EQ(moved.router, &second);
  ASSERT_EQ(moved.request.resume.size(), 1u);
  EXPECT_THAT(moved.request.resume[0].tokens, ::testing::ElementsAre(1, 2));
  second.say(moved.request, {token(3, "c"), end()});
  EXPECT_EQ(reader.next_text(), "c");
  EXPECT_TRUE(reader.finish());
}

TEST_F(GatewayServiceTest, ARoutersRefusalIsAnErrorWithItsStatus) {
  start_ready();
  const http::Response refused =
      call("/v1/completions", R"({"model":"demo","prompt":"refuse","stream":true})");
  EXPECT_EQ(refused.status, 400u);
  EXPECT_THAT(refused.body, HasSubstr(R"("param":"prompt","code":"context_length_exceeded")"));

  const http::Response full = call("/v1/completions", R"({"model":"demo","prompt":"full"})");
  EXPECT_EQ(full.status, 429u);
  EXPECT_EQ(full.header("Retry-After"), "1");
}

TEST_F(GatewayServiceTest, BeyondItsLimitClientsAreToldToComeBack) {
  settings_.gateway.streams_max = 1;
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  const wire::Generate request = next_request();

  const http::Response refused = call("/v1/completions", kWhole);

  EXPECT_EQ(refused.status, 429u);
  EXPECT_EQ(refused.header("Retry-After"), "1");
  EXPECT_EQ(refused.header("X-Request-Id"), "mine");
  router_.say(request, {token(1, "a"), end()});
  EXPECT_EQ(reader.next_text(), "a");
  EXPECT_TRUE(reader.finish());
  auto answer = call_later("/v1/completions", kWhole);
  router_.say(next_request(), {token(1, "a"), end()});
  EXPECT_EQ(answer.get().status, 200u);
}

TEST_F(GatewayServiceTest, WhatTheHttpServerRefusesHasTheApisShape) {
  settings_.gateway.body_bytes_max = 1024;
  start_ready();
  const http::Response response = call("/v1/completions", std::string(2000, ' '));
  EXPECT_EQ(response.status, 413u);
  EXPECT_TRUE(boost::json::parse(response.body).at("error").at("message").is_string());
}

TEST_F(GatewayServiceTest, AClientThatDoesNotReadIsGivenUp) {
  settings_.gateway.stream_buffer_bytes_max = 4096;
  start_ready();
  std::promise<void> read_on;
  std::promise<void> began;
  auto slow = std::async(std::launch::async, [&, read = read_on.get_future()]() mutable {
    http::ClientRequest request{
        .method = "POST", .url = url_ + "/v1/completions", .body = kStream, .timeout = kPatience};
    bool first = true;
    return http::stream(request, [&](std::string_view) {
      if (std::exchange(first, false)) {
        began.set_value();
        read.wait();  // reads nothing until then
      }
      return true;
    });
  });
  const wire::Generate request = next_request();
  router_.say(request, {token(1, "a")});
  began.get_future().wait();

  // More than any socket buffers hold.
  std::optional<wire::CancelStream> cancel;
  const std::string text(50'000, 'x');
  for (int i = 0; i < 5000 && !cancel; ++i) {
    router_.say(request, {token(2, text)});
    cancel = router_.cancels.poll([](const wire::CancelStream&) { return true; });
  }
  if (!cancel) cancel = router_.cancels.wait();

  EXPECT_TRUE(cancel) << "nobody gave the client up";
  read_on.set_value();
  EXPECT_FALSE(slow.get());  // cut off, without an end
  EXPECT_THAT(call("/metrics").body, HasSubstr("\nconclave_gateway_clients_lost_total 1"));
}

TEST_F(GatewayServiceTest, ARequestEndsWhenItHadItsTime) {
  settings_.gateway.request_timeout = milliseconds(50);
  start_ready();
  const http::Response response = call("/v1/completions", kWhole);
  EXPECT_EQ(response.status, 504u);
  EXPECT_TRUE(router_.cancels.wait());
}

TEST_F(GatewayServiceTest, DrainingFinishesWhatIsOpenAndRefusesTheRest) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  const wire::Generate request = next_request();
  router_.say(request, {token(1, "a")});
  EXPECT_EQ(reader.next_text(), "a");

  auto drained = std::async(std::launch::async, [this] {
    service_->drain(std::chrono::steady_clock::now() + kPatience);
  });
  ASSERT_TRUE(scheduler_.wait(wire::NodeState::kDraining));

  EXPECT_THAT(call("/ready").body, HasSubstr("draining"));
  EXPECT_EQ(call("/v1/completions", kWhole).status, 503u);
  EXPECT_EQ(drained.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  router_.say(request, {token(2, "b"), end()});
  EXPECT_EQ(reader.next_text(), "b");
  EXPECT_EQ(reader.next(), "[DONE]");
  EXPECT_TRUE(reader.finish());
  drained.get();
  service_->stop();
}

TEST_F(GatewayServiceTest, TokenizesAndDetokenizes) {
  start_ready();
  EXPECT_EQ(call("/tokenize", R"({"prompt":"a b","return_token_strs":true})").body,
            R"({"count":2,"max_model_len":128,"tokens":[1,2],"token_strs":["demo","a b"]})");
  EXPECT_EQ(call("/detokenize", R"({"model":"demo","tokens":[1]})").body, R"({"prompt":"text"})");
  EXPECT_EQ(call("/detokenize", R"({"tokens":[]})").status, 400u);
  EXPECT_EQ(call("/tokenize", R"({"model":"other","prompt":"a"})").status, 404u);
}

TEST_F(GatewayServiceTest, UsageThatIsRefusedForGoodDoesNotHoldUpTheRest) {
  FakeRegistry registry(*process_, "registry-a", 1);
  settings_.gateway.registry = {registry.address()};
  start_ready();
  std::vector<wire::UsageBatch> got;
  for (int i = 0; i < 2; ++i) {
    auto answer = call_later("/v1/completions", kWhole);
    router_.say(next_request(), {token(1, "a"), end()});
    EXPECT_EQ(answer.get().status, 200u);
    const auto batch = registry.batches.wait();
    ASSERT_TRUE(batch);
    got.push_back(*batch);
  }

  EXPECT_NE(got[0].id, got[1].id);
  EXPECT_EQ(got[1].rows.at(0).requests, 1u);
  EXPECT_THAT(call("/metrics").body, HasSubstr("\nconclave_gateway_usage_refused_total 1"));
}

TEST_F(GatewayServiceTest, SendsNoUsageThatItCouldNotSave) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "conclave-gateway-usage";
  std::filesystem::remove_all(folder);
  FakeRegistry registry(*process_, "registry-a");
  settings_.gateway.registry = {registry.address()};
  settings_.gateway.usage_spool = (folder / "usage").string();
  start_ready();
  auto answer = call_later("/v1/completions", kWhole);
  router_.say(next_request(), {token(1, "a"), end()});
  EXPECT_EQ(answer.get().status, 200u);
  const auto waits = [this] {
    return call("/metrics").body.find("\nconclave_gateway_usage_waiting 1") != std::string::npos;
  };
  while (!waits()) std::this_thread::yield();  // a tick has tried
  EXPECT_FALSE(registry.batches.poll([](const wire::UsageBatch&) { return true; }));

  std::filesystem::create_directories(folder);

  EXPECT_TRUE(registry.batches.wait());
  service_->stop();
  std::filesystem::remove_all(folder);
}

TEST_F(GatewayServiceTest, HoldsATenantToItsQuota) {
  FakeRegistry registry(*process_, "registry-q");
  registry.requests_per_minute = 2;
  settings_.gateway.registry = {registry.address()};
  settings_.gateway.require_key = true;  // until the registry is linked, nobody gets in
  start_ready();
  EXPECT_EQ(call("/v1/completions", kWhole).status, 401u);
  const auto post = [this] {
    http::ClientRequest request{
        .method = "POST", .url = url_ + "/v1/completions", .body = kWhole, .timeout = kPatience};
    request.headers = {{"Content-Type", "application/json"}, {"Authorization", "Bearer sk-1"}};
    return http::fetch(request).value();
  };
  for (int i = 1; i <= 2; ++i) {
    auto answer = std::async(std::launch::async, [&] {
      http::Response response = post();
      while (response.status == 503) response = post();
      return response;
    });
    router_.say(next_request(), {token(1, "a"), end()});
    const http::Response response = answer.get();
    EXPECT_EQ(response.status, 200u) << response.body;
    EXPECT_EQ(http::find_header(response.headers, "x-ratelimit-remaining-requests"),
              std::to_string(2 - i));
  }

  const http::Response refused = post();

  EXPECT_EQ(refused.status, 429u);
  EXPECT_EQ(http::find_header(refused.headers, "x-ratelimit-remaining-requests"), "0");
  EXPECT_THAT(refused.body, HasSubstr("rate_limit_exceeded"));
}

TEST_F(GatewayServiceTest, RefusesSettingsOfRedisThatAreNone) {
  settings_.gateway.redis = config::Secret("localhost:6379");
  service_ = GatewayService::create(settings_, context_, {process_.get()}).value();
  EXPECT_THAT(service_->start().error().message, HasSubstr("redis://"));

  settings_.gateway.redis = config::Secret("redis://localhost");
  settings_.gateway.redis_password_file = "/nonexistent";
  service_ = GatewayService::create(settings_, context_, {process_.get()}).value();
  EXPECT_THAT(service_->start().error().message, HasSubstr("no password in /nonexistent"));
}

TEST_F(GatewayServiceTest, AsksTheNextRegistryIfTheFirstDoesNotAnswer) {
  FakeRegistry first(*process_, "registry-a");
  FakeRegistry second(*process_, "registry-b");
  settings_.gateway.registry = {first.address(), second.address()};
  start_ready();
  const auto get = [&](const std::string& key) {
    http::ClientRequest request{
        .method = "GET", .url = url_ + "/admin/v1/models", .timeout = kPatience};
    request.headers = {{"Authorization", "Bearer " + key}};
    return http::fetch(request).value();
  };
  // Both are linked once each has answered.
  for (FakeRegistry* away : {&first, &second}) {
    away->away = true;
    unsigned keys = 0;
    http::Response response;
    do {
      response = get("key-" + away->address() + std::to_string(keys++));
    } while (response.status == 503);
    EXPECT_EQ(response.status, 200u);
    EXPECT_THAT(response.body, HasSubstr(away == &first ? "registry-b" : "registry-a"));
    away->away = false;
  }
}

TEST_F(GatewayServiceTest, StopsWithRequestsOpen) {
  start_ready();
  Reader reader(url_ + "/v1/completions", kStream);
  router_.say(next_request(), {token(1, "a")});
  EXPECT_EQ(reader.next_text(), "a");
  service_->stop();
  EXPECT_FALSE(reader.finish());
}

}  // namespace
}  // namespace conclave::gateway
