#include "admin_operation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "conclave/http/server.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using testing::Contains;
namespace json = boost::json;

// A server that tells of one operation what the test says, one answer after the other.
class AdminOperationTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = http::Server::start({}, [this](std::shared_ptr<http::Exchange> exchange) {
      const std::size_t number = std::min<std::size_t>(asked_++, answers_.size() - 1);
      path_ = exchange->request().path;
      http::Response response;
      response.status = answers_[number].first;
      response.body = answers_[number].second;
      exchange->respond(std::move(response));
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
  }

  base::Result<json::value> await(const AdminAnswer& begun) {
    const auto client = AdminClient::open(
        {"http://127.0.0.1:" + std::to_string(server_->port()), "key", "/nonexistent"});
    return await_operation(client.value(), begun,
                           [this](unsigned percent) { percents_.push_back(percent); });
  }
  static AdminAnswer begun() {
    return {202, json::object{{"id", "op-1"}, {"state", "running"}, {"percent", 0}}, "", false};
  }

  std::vector<std::pair<unsigned, std::string>> answers_;
  std::atomic<std::size_t> asked_ = 0;
  std::string path_;
  std::vector<unsigned> percents_;
  std::unique_ptr<http::Server> server_;
};

TEST_F(AdminOperationTest, FollowsItToItsResult) {
  answers_ = {{200, R"({"id":"op-1","state":"running","percent":40})"},
              {503, R"({"error":{"message":"the registry is away"}})"},
              {200, R"({"id":"op-1","state":"done","percent":100,"result":{"version":3}})"}};
  const auto result = await(begun());
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, json::value({{"version", 3}}));
  EXPECT_EQ(path_, "/admin/v1/operations/op-1");
  EXPECT_THAT(percents_, Contains(40U));
}

TEST_F(AdminOperationTest, ItsErrorIsTheError) {
  answers_ = {
      {200, R"({"state":"failed","error":{"code":"corrupt_data","message":"not a GGUF file"}})"}};
  EXPECT_EQ(await(begun()).error(), (base::Error{ErrorCode::kCorruptData, "not a GGUF file"}));
  answers_ = {{200, R"({"state":"failed","error":"gone"})"}};
  EXPECT_EQ(await(begun()).error(), (base::Error{ErrorCode::kUnavailable, "gone"}));
}

TEST_F(AdminOperationTest, OneThatIsForgottenIsAnError) {
  answers_ = {{404, R"({"error":{"message":"no such operation"}})"}};
  EXPECT_EQ(await(begun()).error().code, ErrorCode::kNotFound);
}

TEST_F(AdminOperationTest, WhatWasAnsweredAtOnceIsTheResult) {
  EXPECT_EQ(await({200, json::object{{"version", 1}}, "", false}).value(),
            json::value({{"version", 1}}));
  EXPECT_EQ(asked_, 0U);
  EXPECT_FALSE(await({202, json::object{}, "", false}));
}

}  // namespace
}  // namespace conclave::cli
