#include "bench_http.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace conclave::cli {
namespace {

using base::ErrorCode;

// The body of what `bytes` are the answer, given `piece` bytes at a time; or what is wrong with it.
base::Result<std::string> body_of(HttpAnswer& answer, const std::string& bytes, std::size_t piece) {
  std::string body;
  answer.begin();
  for (std::size_t at = 0; at < bytes.size() && !answer.whole(); at += piece) {
    std::string_view left = std::string_view(bytes).substr(at, piece);
    for (;;) {
      CONCLAVE_TRY(const std::string_view part, answer.take(left));
      if (part.empty()) break;
      body += part;
    }
  }
  if (!answer.whole()) CONCLAVE_TRY_VOID(answer.end());
  return body;
}

void expect_body(const std::string& bytes, const std::string& body, bool stays_open) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
    HttpAnswer answer;
    const auto found = body_of(answer, bytes, piece);
    ASSERT_TRUE(found) << found.error().message << " in pieces of " << piece;
    EXPECT_EQ(*found, body) << piece;
    EXPECT_EQ(answer.status(), 200u);
    EXPECT_EQ(answer.stays_open(), stays_open);
  }
}

TEST(HttpAnswerTest, ReadsABodyOfGivenLength) {
  expect_body("HTTP/1.1 200 OK\r\ncontent-LENGTH:  5 \r\nA: b\r\n\r\nhello", "hello", true);
  expect_body("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true);
  expect_body("HTTP/1.1 200\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nhi", "hi", false);
}

TEST(HttpAnswerTest, ReadsChunksAndTheirTrailer) {
  expect_body(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n",
      "hello 0123456789", true);
}

TEST(HttpAnswerTest, ReadsToTheEndOfTheConnection) {
  expect_body("HTTP/1.0 200 OK\r\n\r\nall of it", "all of it", false);
  expect_body("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", "x", true);
}

TEST(HttpAnswerTest, ReadsOverInterimAnswers) {
  expect_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x",
              true);
}

TEST(HttpAnswerTest, WhatIsNoAnswerIsSaid) {
  const auto code = [](const std::string& bytes) {
    HttpAnswer answer;
    const auto body = body_of(answer, bytes, 10);
    return body ? std::optional<ErrorCode>() : body.error().code;
  };
  EXPECT_EQ(code("SSH-2.0-OpenSSH_9.2\r\n"), ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 abc OK\r\n"), ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nno colon\r\n"), ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"),
            ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nA: " + std::string(70'000, 'x')), ErrorCode::kCorruptData);
  EXPECT_EQ(code(std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")),
            ErrorCode::kUnavailable);
  EXPECT_EQ(code(""), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::cli
