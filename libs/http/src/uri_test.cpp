#include "conclave/http/uri.hpp"

#include <gtest/gtest.h>

#include <string>

namespace conclave::http {
namespace {

TEST(UriTest, DecodesPercentSequences) {
  EXPECT_EQ(percent_decode("a%20b%2Fc%2f+").value(), "a b/c/+");
  EXPECT_EQ(percent_decode("").value(), "");
  EXPECT_EQ(percent_decode("%00").value(), std::string(1, '\0'));
}

TEST(UriTest, RefusesBrokenSequences) {
  for (const char* text : {"%", "%4", "%G1", "%1G", "a%", "%-1", "% 1", "%+1", "%0x"}) {
    const auto decoded = percent_decode(text);
    ASSERT_FALSE(decoded.has_value()) << text;
    EXPECT_EQ(decoded.error().code, base::ErrorCode::kInvalidArgument);
  }
}

TEST(UriTest, EncodesWhatIsNotPlain) {
  EXPECT_EQ(percent_encode("Az0-._~"), "Az0-._~");
  EXPECT_EQ(percent_encode("a b/ü?"), "a%20b%2F%C3%BC%3F");
}

TEST(UriTest, DecodesWhatItEncodes) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every.push_back(static_cast<char>(byte));

  EXPECT_EQ(percent_decode(percent_encode(every)).value(), every);
}

TEST(UriTest, FindsArguments) {
  const std::string query = "limit=5&name=a+b%26c&flag&empty=&limit=6&a%3Db=x&&bad=%";

  EXPECT_EQ(query_value(query, "limit"), "5");
  EXPECT_EQ(query_value(query, "name"), "a b&c");
  EXPECT_EQ(query_value(query, "flag"), "");
  EXPECT_EQ(query_value(query, "empty"), "");
  EXPECT_EQ(query_value(query, "a=b"), "x");
  EXPECT_EQ(query_value(query, "bad"), std::nullopt);
  EXPECT_EQ(query_value(query, "lim"), std::nullopt);
  EXPECT_EQ(query_value("", "limit"), std::nullopt);
}

}  // namespace
}  // namespace conclave::http
