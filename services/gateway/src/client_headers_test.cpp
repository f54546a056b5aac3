#include "client_headers.hpp"

#include <gtest/gtest.h>

namespace conclave::gateway {
namespace {

TEST(ClientHeadersTest, TakesRequestIdsThatAreSafeToLogAndSendBack) {
  EXPECT_TRUE(is_request_id("a"));
  EXPECT_TRUE(is_request_id("req-1_2.3:4/5+6=7@8~9"));
  EXPECT_TRUE(is_request_id(std::string(128, 'x')));
  EXPECT_FALSE(is_request_id(""));
  EXPECT_FALSE(is_request_id(std::string(129, 'x')));
  EXPECT_FALSE(is_request_id("two words"));
  EXPECT_FALSE(is_request_id("quote\""));
  EXPECT_FALSE(is_request_id("line\nbreak"));
  EXPECT_FALSE(is_request_id("umläut"));
}

TEST(ClientHeadersTest, ReadsATraceparent) {
  const auto trace = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

  ASSERT_TRUE(trace);
  EXPECT_EQ(trace->trace_id[0], 0x0A);
  EXPECT_EQ(trace->trace_id[15], 0x9C);
  EXPECT_EQ(trace->span_id[0], 0xB7);
  EXPECT_EQ(trace->span_id[7], 0x31);
  EXPECT_EQ(trace->flags, 1);
}

TEST(ClientHeadersTest, ReadsTheBeginningOfALaterVersion) {
  EXPECT_TRUE(parse_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"));
  EXPECT_FALSE(parse_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01what"));
}

TEST(ClientHeadersTest, PassesOverMalformedTraceparents) {
  for (const char* const header : {"", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                                   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
                                   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                                   "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                   "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                                   "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
                                   "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                   "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                   "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}) {
    EXPECT_FALSE(parse_traceparent(header)) << header;
  }
}

TEST(ClientHeadersTest, WritesIdsAsHexadecimalDigits) {
  EXPECT_EQ(hex_id(0x0123456789ABCDEF, 0xF), "0123456789abcdef000000000000000f");
}

TEST(ClientHeadersTest, KnowsJsonByItsContentType) {
  for (const char* const type : {"", "application/json", "Application/JSON; charset=utf-8",
                                 "application/json ;x", "application/vnd.api+json"}) {
    EXPECT_TRUE(is_json_type(type)) << type;
  }
  for (const char* const type : {"text/plain", "application/x-www-form-urlencoded",
                                 "application/jsonl", "text/html+json", "json"}) {
    EXPECT_FALSE(is_json_type(type)) << type;
  }
}

}  // namespace
}  // namespace conclave::gateway
