#include "conclave/base/utf8.hpp"

#include <gtest/gtest.h>

#include <string>

namespace conclave::base::utf8 {
namespace {

TEST(Utf8Test, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append(text, c);
    const Decoded back = decode(text);
    ASSERT_TRUE(back.valid) << static_cast<unsigned>(c);
    ASSERT_EQ(back.code_point, c);
    ASSERT_EQ(back.length, text.size());
    for (std::size_t n = 1; n < text.size(); ++n) {
      ASSERT_EQ(incomplete_suffix(text.substr(0, n)), n) << static_cast<unsigned>(c);
    }
    ASSERT_EQ(incomplete_suffix(text), 0u);
  }
}

TEST(Utf8Test, RefusesOverlongFormsSurrogatesAndBytesThatStartNothing) {
  EXPECT_FALSE(valid("\xC0\xAF"));          // '/' in two bytes
  EXPECT_FALSE(valid("\xE0\x80\x80"));      // NUL in three
  EXPECT_FALSE(valid("\xED\xA0\x80"));      // U+D800
  EXPECT_FALSE(valid("\xF4\x90\x80\x80"));  // U+110000
  EXPECT_FALSE(valid("\xFF"));
  EXPECT_FALSE(valid("\x80"));
  EXPECT_TRUE(valid("caf\xC3\xA9 \xF0\x9F\x98\x80"));
}

TEST(Utf8Test, ReplacesEachMaximalBadPrefixByOneReplacementCharacter) {
  // The example of the Unicode standard, section 3.9: 61 F1 80 80 E1 80 C2 62 80 63 80 BF 64.
  const std::string bad =
      "a\xF1\x80\x80\xE1\x80\xC2"
      "b\x80"
      "c\x80\xBF"
      "d";
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(sanitize(bad), "a" + r + r + r + "b" + r + "c" + r + r + "d");
}

TEST(Utf8Test, ASuffixThatCannotBecomeACharacterIsNotHeldBack) {
  EXPECT_EQ(incomplete_suffix("\xE0\x80"), 0u);  // E0 wants A0..BF
  EXPECT_EQ(incomplete_suffix("a\xE2\x82"), 2u);
  EXPECT_EQ(incomplete_suffix("\x82\x82"), 0u);
}

}  // namespace
}  // namespace conclave::base::utf8
