#include "json_writer.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <cstdlib>
#include <limits>

namespace conclave::gateway {
namespace {

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string digits(float number) {
  std::string out;
  append_json_float(out, number);
  return out;
}

TEST(JsonWriterTest, EscapesWhatJsonCannotHold) {
  EXPECT_EQ(quoted(""), R"("")");
  EXPECT_EQ(quoted("plain"), R"("plain")");
  EXPECT_EQ(quoted("a\"b\\c\nd\re\tf"), R"("a\"b\\c\nd\re\tf")");
  EXPECT_EQ(quoted(std::string_view("\0\x1f\x7f", 3)), R"("\u0000\u001f\u007f")");
}

TEST(JsonWriterTest, KeepsCharactersAndReplacesBytesThatAreNone) {
  EXPECT_EQ(quoted("é€😀"), "\"é€😀\"");
  EXPECT_EQ(quoted("a\xff"
                   "b"),
            "\"a\xEF\xBF\xBD"
            "b\"");
  EXPECT_EQ(quoted("\xE2\x82"), "\"\xEF\xBF\xBD\"");  // the beginning of a character
}

TEST(JsonWriterTest, WhateverBytesComeTheResultIsAString) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const char bytes[] = {static_cast<char>(first), static_cast<char>(second), 'x'};
      boost::system::error_code error;
      const auto value = boost::json::parse(quoted({bytes, 3}), error);
      ASSERT_FALSE(error) << first << " " << second;
      ASSERT_TRUE(value.is_string());
    }
  }
}

TEST(JsonWriterTest, WritesFloatsThatReadBackAsTheSameDouble) {
  for (const float number :
       {0.1f, -1e-8f, 3.0f, -0.0f, 12345678.0f, 1e30f, std::numeric_limits<float>::denorm_min()}) {
    const double read = std::strtod(digits(number).c_str(), nullptr);
    EXPECT_EQ(read, static_cast<double>(number)) << digits(number);
  }
  EXPECT_EQ(digits(3.0f), "3.0");
  EXPECT_EQ(digits(0.1f), "0.10000000149011612");
}

TEST(JsonWriterTest, WritesNumbersThatJsonDoesNotKnowAsOpenAiDoes) {
  EXPECT_EQ(digits(-std::numeric_limits<float>::infinity()), "-9999.0");
  EXPECT_EQ(digits(std::numeric_limits<float>::quiet_NaN()), "null");
}

TEST(JsonWriterTest, SetsCommasByItself) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("a").begin_array().number(1).number(2u).begin_object().end_object();
  json.null().end_array().key("b").boolean(true).key("c").raw("[9]").key("d").text("x");
  json.end_object();
  EXPECT_EQ(out, R"({"a":[1,2,{},null],"b":true,"c":[9],"d":"x"})");
}

}  // namespace
}  // namespace conclave::gateway
