#include "conclave/model/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace conclave::model {
namespace {

RopeConfig config(RopeStyle style, std::uint32_t dimensions) {
  RopeConfig rope;
  rope.style = style;
  rope.dimensions = dimensions;
  rope.base = 10000.0f;
  return rope;
}

std::vector<float> rotated(const Rope& rope, std::vector<float> head, std::uint32_t position) {
  std::vector<float> cos(rope.pairs());
  std::vector<float> sin(rope.pairs());
  rope.angles(position, cos.data(), sin.data());
  rope.rotate(head.data(), cos.data(), sin.data());
  return head;
}

TEST(RopeTest, StylesRotateAdjacentPairsOrHalves) {
  const auto norm = rotated(Rope(config(RopeStyle::kNorm, 4), {}), {1, 0, 0, 0, 9}, 2);
  EXPECT_FLOAT_EQ(norm[0], std::cos(2.0f));
  EXPECT_FLOAT_EQ(norm[1], std::sin(2.0f));
  EXPECT_EQ(norm[4], 9.0f);  // beyond the rotated dimensions
  const auto neox = rotated(Rope(config(RopeStyle::kNeox, 4), {}), {1, 0, 0, 0, 9}, 2);
  EXPECT_FLOAT_EQ(neox[0], std::cos(2.0f));
  EXPECT_FLOAT_EQ(neox[2], std::sin(2.0f));
}

TEST(RopeTest, LaterPairsTurnSlowerAndFactorsSlowThemFurther) {
  const std::vector<float> factors{1.0f, 4.0f};
  const auto head = rotated(Rope(config(RopeStyle::kNorm, 4), factors), {0, 0, 1, 0}, 100);
  EXPECT_NEAR(head[3], std::sin(100.0 * 0.01 / 4.0), 1e-6);
}

TEST(RopeTest, YarnKeepsFastPairsAndInterpolatesSlowOnes) {
  RopeConfig rope = config(RopeStyle::kNorm, 64);
  rope.yarn = true;
  rope.scale = 0.25f;
  rope.original_context = 4096;
  std::vector<float> head(64, 0.0f);
  head[0] = head[62] = 1.0f;
  const auto out = rotated(Rope(rope, {}), head, 8);
  EXPECT_NEAR(out[1], std::sin(8.0), 1e-6);
  const double slow = std::pow(10000.0, -62.0 / 64.0);
  EXPECT_NEAR(out[63], std::sin(8.0 * slow / 4.0), 1e-7);
}

TEST(RopeTest, FarPositionsStayExact) {
  std::vector<float> cos(1);
  std::vector<float> sin(1);
  Rope(config(RopeStyle::kNorm, 2), {}).angles(10'000'019, cos.data(), sin.data());
  EXPECT_FLOAT_EQ(cos[0], static_cast<float>(std::cos(10'000'019.0L)));
}

}  // namespace
}  // namespace conclave::model
