#include "conclave/telemetry/progress_bar.hpp"

#include <gmock/gmock.h>

#include <vector>

namespace conclave::telemetry {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

struct ProgressBarTest : testing::Test {
  std::chrono::steady_clock::time_point now;
  std::vector<std::string> drawn;

  ProgressBar::Clock clock() {
    return [this] { return now; };
  }
  ProgressBar::Sink sink() {
    return [this](const std::string& text) { drawn.push_back(text); };
  }
};

TEST_F(ProgressBarTest, StaysSilentForShortWork) {
  {
    ProgressBar bar("loading", clock(), sink());
    now += milliseconds(499);
    bar.update(1, 2);
  }
  EXPECT_TRUE(drawn.empty());
}

TEST_F(ProgressBarTest, DrawsShareAndTimeLeftAndWipesItselfAtTheEnd) {
  {
    ProgressBar bar("loading", clock(), sink());
    now += milliseconds(4000);
    bar.update(1, 4);
    bar.update(2, 4);  // within a tenth of a second: not drawn
  }
  ASSERT_EQ(drawn.size(), 2u);
  EXPECT_THAT(drawn[0], HasSubstr("loading ["));
  EXPECT_THAT(drawn[0], HasSubstr("25%, 12 s left"));
  EXPECT_EQ(drawn[1], "\r\033[K");
}

TEST_F(ProgressBarTest, SurvivesCountsBeyondTheTotal) {
  ProgressBar bar("loading", clock(), sink());
  now += milliseconds(1000);
  bar.update(0, 0);
  bar.update(9, 4);
  ASSERT_EQ(drawn.size(), 1u);
  EXPECT_THAT(drawn[0], HasSubstr("100%"));
}

}  // namespace
}  // namespace conclave::telemetry
