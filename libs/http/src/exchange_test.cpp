#include "conclave/http/exchange.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "testing_server.hpp"

namespace conclave::http::testing {
namespace {

/// A server, a client that has asked for `/`, and the exchange.
class ExchangeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = serve(desk_.handler());
    client_ = std::make_unique<RawSocket>(server_->port());
    client_->send(get("/"));
    exchange_ = desk_.next();
    ASSERT_NE(exchange_, nullptr);
  }

  Desk desk_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<RawSocket> client_;
  std::shared_ptr<Exchange> exchange_;
};

TEST_F(ExchangeTest, AnswersFromAnotherThread) {
  std::thread([&] { exchange_->respond(text("from afar")); }).join();

  EXPECT_EQ(client_->read_response().body, "from afar");
}

TEST_F(ExchangeTest, SendsLargeAnswersWhole) {
  std::string body(std::size_t{20} << 20, 'x');
  for (std::size_t i = 0; i < body.size(); i += 4099) body[i] = static_cast<char>('a' + i % 26);

  exchange_->respond(text(body));

  const RawResponse response = client_->read_response();
  EXPECT_TRUE(response.complete);
  EXPECT_TRUE(response.body == body);
}

TEST_F(ExchangeTest, StreamsInChunks) {
  Response head = event_stream();
  head.headers = {{"Cache-Control", "no-cache"}};
  exchange_->begin(std::move(head));
  EXPECT_EQ(client_->read_through("\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            "Cache-Control: no-cache\r\n\r\n");

  EXPECT_TRUE(exchange_->write("first"));
  EXPECT_EQ(client_->read_through("\r\nfirst\r\n"), "5\r\nfirst\r\n");
  EXPECT_TRUE(exchange_->write(""));  // would end the stream if it were sent
  EXPECT_TRUE(exchange_->write(std::string(16, 'b')));
  exchange_->end();

  EXPECT_EQ(client_->read_through("0\r\n\r\n"), "10\r\nbbbbbbbbbbbbbbbb\r\n0\r\n\r\n");
}

TEST_F(ExchangeTest, KeepsTheConnectionAfterAStream) {
  exchange_->begin(event_stream());
  exchange_->end();
  EXPECT_EQ(client_->read_response().body, "");

  client_->send(get("/2"));
  echo(desk_.next());

  EXPECT_EQ(client_->read_response().body, "GET /2|");
}

TEST_F(ExchangeTest, AnswersForWhoForgets) {
  exchange_.reset();

  EXPECT_EQ(client_->read_response().status, 500U);
  client_->send(get("/2"));  // the connection is still good
  echo(desk_.next());
  EXPECT_EQ(client_->read_response().body, "GET /2|");
}

TEST_F(ExchangeTest, CutsAStreamThatIsForgotten) {
  exchange_->begin(event_stream());
  EXPECT_TRUE(exchange_->write("half"));
  exchange_.reset();

  const RawResponse response = client_->read_response();
  EXPECT_EQ(response.status, 200U);
  EXPECT_FALSE(response.complete);
  EXPECT_TRUE(client_->closed_by_server());
}

TEST_F(ExchangeTest, TakesOnlyTheFirstAnswer) {
  exchange_->respond(text("first"));
  exchange_->respond(text("second"));
  exchange_->begin(event_stream());
  EXPECT_FALSE(exchange_->write("third"));
  exchange_->end();
  EXPECT_EQ(client_->read_response().body, "first");

  // Nor does it disturb the next request of the connection.
  client_->send(get("/2"));
  const auto next = desk_.next();
  ASSERT_NE(next, nullptr);
  exchange_->respond(text("late"));
  exchange_.reset();
  echo(next);

  EXPECT_EQ(client_->read_response().body, "GET /2|");
  EXPECT_EQ(server_->stats().requests, 2U);
}

TEST_F(ExchangeTest, TakesNothingAfterTheEnd) {
  exchange_->begin(event_stream());
  EXPECT_TRUE(exchange_->write("all"));
  exchange_->end();
  EXPECT_FALSE(exchange_->write("more"));
  exchange_->end();
  exchange_->respond(text("more"));

  EXPECT_EQ(client_->read_response().body, "all");
  client_->send(get("/2"));
  echo(desk_.next());
  EXPECT_EQ(client_->read_response().body, "GET /2|");
}

TEST_F(ExchangeTest, TakesNoChunkBeforeTheBeginning) {
  EXPECT_FALSE(exchange_->write("early"));
  exchange_->end();

  exchange_->respond(text("answer"));

  EXPECT_EQ(client_->read_response().body, "answer");
}

TEST_F(ExchangeTest, LetsOneOfManyRacingAnswersWin) {
  std::vector<std::thread> racers;
  for (int i = 0; i < 4; ++i) {
    racers.emplace_back([this, i] { exchange_->respond(text(std::to_string(i))); });
  }
  for (auto& racer : racers) racer.join();

  EXPECT_EQ(client_->read_response().body.size(), 1U);
  client_->send(get("/2"));
  echo(desk_.next());
  EXPECT_EQ(client_->read_response().body, "GET /2|");
}

TEST_F(ExchangeTest, TellsOnlyTheLastCallback) {
  Signal first;
  Signal second;
  exchange_->on_close([&] { first.set(); });
  exchange_->on_close([&] { second.set(); });

  client_->close();

  EXPECT_TRUE(second.wait());
  EXPECT_EQ(first.count(), 0);
}

TEST_F(ExchangeTest, MayBeDroppedByItsOwnCallback) {
  Signal lost;
  auto* holder = &exchange_;
  exchange_->on_close([holder, &lost] {
    holder->reset();
    lost.set();
  });

  client_->close();

  EXPECT_TRUE(lost.wait());
  EXPECT_EQ(exchange_, nullptr);
}

}  // namespace
}  // namespace conclave::http::testing
