#include "conclave/base/text.hpp"

#include <gtest/gtest.h>

#include "conclave/base/utf8.hpp"

namespace conclave::base {
namespace {

TEST(TextTest, ControlCharactersAndBadBytesDoNotReachATerminal) {
  EXPECT_EQ(shown("a\x1B[2Jb\nc\x7F"), "'a?[2Jb?c?'");
  EXPECT_TRUE(utf8::valid(printable("\xFF\xC3")));
}

TEST(TextTest, LongTextIsCut) {
  const std::string text(kShownBytes + 1, 'x');
  EXPECT_EQ(printable(text), std::string(kShownBytes, 'x') + "...");
  EXPECT_EQ(printable(text.substr(1)), text.substr(1));
}

}  // namespace
}  // namespace conclave::base
