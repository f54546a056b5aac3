#include "text.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace conclave::jinja {
namespace {

TEST(TextTest, PrintsNumbersLikeJavaScript) {
  EXPECT_EQ(number_text(1.0), "1");
  EXPECT_EQ(number_text(-0.0), "0");
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(number_text(-1234.5), "-1234.5");
  EXPECT_EQ(number_text(123456789012345680000.0), "123456789012345680000");
  EXPECT_EQ(number_text(1e21), "1e+21");
  EXPECT_EQ(number_text(1.5e-7), "1.5e-7");
  EXPECT_EQ(number_text(0.000001), "0.000001");
  EXPECT_EQ(number_text(5e-324), "5e-324");
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "Infinity");
  EXPECT_EQ(number_text(std::numeric_limits<double>::quiet_NaN()), "NaN");
}

TEST(TextTest, FloatsKeepAFraction) {
  EXPECT_EQ(float_text(1.0), "1.0");
  EXPECT_EQ(float_text(-0.0), "-0.0");
  EXPECT_EQ(float_text(2.5), "2.5");
  EXPECT_EQ(float_text(123456789012345680000.0), "123456789012345683968.0");
  EXPECT_EQ(float_text(1e21), "1e+21");
}

TEST(TextTest, MapsCaseBeyondAscii) {
  EXPECT_EQ(to_upper("straße äöü жук ŉ ǆ"), "STRASSE ÄÖÜ ЖУК ʼN Ǆ");
  EXPECT_EQ(to_lower("ÄÖÜ ЖУК İ ΑΒΓ"), "äöü жук i̇ αβγ");
  EXPECT_EQ(capitalize("éA b"), "ÉA b");
  EXPECT_EQ(title_case("it's 2nd é-word_x"), "It'S 2nd é-Word_x");
}

TEST(TextTest, TrimsUnicodeSpace) {
  EXPECT_EQ(trim("\u00a0\ufeff \t\na b\u3000\u2028"), "a b");
  EXPECT_EQ(trim(" \n"), "");
  EXPECT_EQ(trim("é"), "é");
}

TEST(TextTest, ReadsNumbersFromTheStart) {
  EXPECT_EQ(parse_int_prefix(" -12px").value, -12);
  EXPECT_EQ(parse_int_prefix("+5").value, 5);
  EXPECT_FALSE(parse_int_prefix("px").found);
  EXPECT_FALSE(parse_int_prefix("+-5").found);
  EXPECT_TRUE(parse_int_prefix("99999999999999999999").overflow);
  EXPECT_EQ(parse_float_prefix(" -.5x").value(), -0.5);
  EXPECT_EQ(parse_float_prefix("1e3").value(), 1000.0);
  EXPECT_FALSE(parse_float_prefix("inf").has_value());
  EXPECT_FALSE(parse_float_prefix("nan").has_value());
}

TEST(TextTest, CountsCharactersNotBytes) {
  EXPECT_EQ(character_count("aé日😀"), 4U);
  EXPECT_EQ(character_count("\xff\xfe"), 2U);
  EXPECT_EQ(character_offsets("é!"), (std::vector<std::size_t>{0, 2, 3}));
}

}  // namespace
}  // namespace conclave::jinja
