#include "bench_client.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "conclave/http/server.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;

const std::string kToken = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
const std::string kEnd = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";

// A server that answers as the test says, and a client of it.
class LoadClientTest : public testing::Test {
 protected:
  void serve(http::Handler handler) {
    auto server = http::Server::start({}, [this, handler = std::move(handler)](auto exchange) {
      {
        const std::lock_guard lock(mutex_);
        bodies_.insert(exchange->request().body);
        remotes_.insert(exchange->request().remote);
      }
      handler(std::move(exchange));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    open("http://127.0.0.1:" + std::to_string(server_->port()) + "/v1/completions");
  }
  void open(const std::string& url, bool stream = true, int timeout_ms = 0) {
    auto client = LoadClient::create({.url = url,
                                      .headers = {{"X-Test", "yes"}},
                                      .stream = stream,
                                      .prompt_tokens = 3,
                                      .timeout = std::chrono::milliseconds(timeout_ms)});
    ASSERT_TRUE(client) << client.error().message;
    client_ = std::make_unique<LoadClient>(*std::move(client));
  }
  base::Result<double> run(const LoadPlan& plan, std::stop_token stop = {}) {
    return client_->run(
        plan, [](std::uint64_t number) { return std::to_string(number); }, tally_, stop,
        [this](std::uint64_t ended) { ended_ = ended; });
  }
  [[nodiscard]] LoadReport report() const { return tally_.report(1.0); }

  static void stream(const std::shared_ptr<http::Exchange>& exchange, const std::string& text) {
    exchange->begin({.content_type = "text/event-stream"});
    exchange->write(text);
    exchange->end();
  }

  std::mutex mutex_;  // guards the sets
  std::set<std::string> bodies_;
  std::set<std::string> remotes_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<LoadClient> client_;
  LoadTally tally_{{}};
  std::uint64_t ended_ = 0;
};

TEST_F(LoadClientTest, SendsEveryRequestOnceOverConnectionsThatStay) {
  serve([](const auto& exchange) { stream(exchange, kToken + kToken + kEnd); });
  ASSERT_TRUE(run({.connections = 4, .requests = 50}));
  EXPECT_EQ(report().completed, 50u);
  EXPECT_EQ(report().output_tokens, 100u);
  EXPECT_EQ(report().prompt_tokens, 150u);
  EXPECT_EQ(report().failed, 0u);
  EXPECT_EQ(ended_, 50u);
  EXPECT_EQ(bodies_.size(), 50u);
  EXPECT_LE(remotes_.size(), 4u);
  ASSERT_TRUE(run({.connections = 2, .requests = 10}));  // again, with fewer
  EXPECT_EQ(report().completed, 60u);
}

TEST_F(LoadClientTest, KeepsAsManyRequestsUnderWayAsItIsTold) {
  // Answers none before three are there: fewer would wait for ever, more would be seen.
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  std::size_t most = 0;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    most = std::max(most, waiting.size());
    if (waiting.size() < 3) return;
    for (const auto& each : waiting) stream(each, kToken + kEnd);
    waiting.clear();
  });
  ASSERT_TRUE(run({.connections = 3, .requests = 30}));
  EXPECT_EQ(report().completed, 30u);
  server_.reset();
  EXPECT_EQ(most, 3u);
}

TEST_F(LoadClientTest, ArrivalsDoNotWaitForAnswers) {
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    if (waiting.size() < 20) return;
    for (const auto& each : waiting) stream(each, kToken + kEnd);
  });
  ASSERT_TRUE(run({.connections = 100, .rate = 2000.0, .requests = 20, .seed = 1}));
  EXPECT_EQ(report().completed, 20u);
}

TEST_F(LoadClientTest, TellsHowRequestsFail) {
  std::atomic<int> number = 0;
  serve([&](const std::shared_ptr<http::Exchange>& exchange) {
    switch (number++) {
      case 0:
        exchange->respond({.status = 429, .body = R"({"error":{"message":"slow down"}})"});
        return;
      case 1:
        stream(exchange, kToken);
        return;
      case 2:
        stream(exchange, "data: {\"error\":{\"message\":\"no worker\"}}\n\n");
        return;
      case 3:
        exchange->begin({.content_type = "text/event-stream"});
        exchange->write(kToken);
        return;  // dies within the stream: the connection is cut
      default:
        stream(exchange, kToken + kEnd);
    }
  });
  ASSERT_TRUE(run({.connections = 1, .requests = 6}));
  const LoadReport found = report();
  EXPECT_EQ(found.completed, 2u);
  EXPECT_EQ(found.failed, 4u);
  ASSERT_EQ(found.errors.count("status 429"), 1u);
  EXPECT_EQ(found.errors.at("status 429").first, "slow down (status 429)");
  EXPECT_EQ(found.errors.count("broken answer"), 1u);
  ASSERT_EQ(found.errors.count("error in the stream"), 1u);
  EXPECT_EQ(found.errors.at("error in the stream").first, "no worker");
  EXPECT_EQ(found.errors.count("connection lost"), 1u);
}

TEST_F(LoadClientTest, ReadsAnswersThatAreNotStreamed) {
  serve([](const auto& exchange) {
    exchange->respond({.body = R"({"choices":[{}],"usage":{"completion_tokens":4}})"});
  });
  open("http://127.0.0.1:" + std::to_string(server_->port()) + "/", false);
  ASSERT_TRUE(run({.connections = 2, .requests = 4}));
  EXPECT_EQ(report().completed, 4u);
  EXPECT_EQ(report().output_tokens, 16u);
}

TEST_F(LoadClientTest, AnAnswerThatDoesNotComeIsATimeout) {
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) { waiting.push_back(std::move(exchange)); });
  open("http://127.0.0.1:" + std::to_string(server_->port()) + "/", true, 50);
  ASSERT_TRUE(run({.connections = 1, .requests = 1}));
  EXPECT_EQ(report().errors.count("timeout"), 1u);
}

TEST_F(LoadClientTest, AStopGivesUpWhatIsUnderWay) {
  std::stop_source stop;
  std::vector<std::shared_ptr<http::Exchange>> waiting;
  serve([&](auto exchange) {
    waiting.push_back(std::move(exchange));
    if (waiting.size() == 2) stop.request_stop();
  });
  ASSERT_TRUE(run({.connections = 2, .requests = 10}, stop.get_token()));
  EXPECT_EQ(report().unfinished, 2u);
  EXPECT_EQ(report().completed, 0u);
}

TEST_F(LoadClientTest, AServerThatIsGoneEndsTheRun) {
  serve([](const auto& exchange) { stream(exchange, kToken + kEnd); });
  server_.reset();
  const auto ran = run({.connections = 4, .duration_s = 1000.0});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::kUnavailable);
  EXPECT_GE(report().errors.at("no connection").count, 100u);
}

}  // namespace
}  // namespace conclave::cli
