#include "conclave/wire/expert.hpp"

#include <gtest/gtest.h>

#include <string>

#include "conclave/wire/limits.hpp"

namespace conclave::wire {
namespace {

using base::ErrorCode;

ExpertCall call(std::uint32_t rows, std::uint32_t pairs, std::uint32_t hidden, RowForms forms) {
  ExpertCall call;
  call.rows = rows;
  call.pairs = pairs;
  call.hidden = hidden;
  call.forms = forms;
  return call;
}

TEST(CallLayoutTest, PutsEveryPartOnACacheLine) {
  struct Case {
    ExpertCall call;
    CallLayout layout;
  };
  const Case cases[] = {
      // One row of one block: 8 bytes of pair, 32 of quants, 4 of scales, 128 of floats.
      {call(1, 1, 32, RowForms::kBoth), {0, 64, 128, 192, 320, 128}},
      {call(1, 1, 32, RowForms::kQuantized), {0, 64, 128, 0, 132, 128}},
      {call(1, 1, 32, RowForms::kFloats), {0, 0, 0, 64, 192, 128}},
      // Nothing to round: 64 pairs of 8, 2 rows of 2048.
      {call(2, 64, 2048, RowForms::kBoth), {0, 512, 4608, 5120, 21504, 524288}},
      // Floats need no blocks.
      {call(3, 9, 7, RowForms::kFloats), {0, 0, 0, 128, 212, 252}},
  };
  for (const auto& [request, expected] : cases) {
    const auto layout = layout_of(request);
    ASSERT_TRUE(layout) << layout.error().to_string();
    EXPECT_EQ(layout->pairs, expected.pairs);
    EXPECT_EQ(layout->quants, expected.quants);
    EXPECT_EQ(layout->scales, expected.scales);
    EXPECT_EQ(layout->floats, expected.floats);
    EXPECT_EQ(layout->bytes, expected.bytes);
    EXPECT_EQ(layout->reply_bytes, expected.reply_bytes);
  }
}

TEST(CallLayoutTest, TakesTheLargestOfEachCount) {
  EXPECT_TRUE(layout_of(call(kCallRowsMax, 1, 32, RowForms::kBoth)));
  EXPECT_TRUE(layout_of(call(1, kCallPairsMax, 32, RowForms::kBoth)));
  EXPECT_TRUE(layout_of(call(1, 1, kHiddenMax, RowForms::kBoth)));
}

TEST(CallLayoutTest, RefusesCountsOutOfRange) {
  const ExpertCall refused[] = {
      call(0, 1, 32, RowForms::kFloats),
      call(1, 0, 32, RowForms::kFloats),
      call(1, 1, 0, RowForms::kFloats),
      call(kCallRowsMax + 1, 1, 32, RowForms::kFloats),
      call(1, kCallPairsMax + 1, 32, RowForms::kFloats),
      call(1, 1, kHiddenMax + 32, RowForms::kFloats),
      call(1, 1, 33, RowForms::kQuantized),
      call(1, 1, 33, RowForms::kBoth),
      call(1, 1, 32, RowForms{0}),
      call(1, 1, 32, RowForms{4}),
      // Each count holds; together they do not: 16 GiB of floats out, 4 GiB back.
      call(kCallRowsMax, 1, kHiddenMax, RowForms::kFloats),
      call(1, kCallRowsMax, kHiddenMax / 4, RowForms::kFloats),
  };
  for (const ExpertCall& request : refused) {
    const auto layout = layout_of(request);
    ASSERT_FALSE(layout) << request.rows << " " << request.pairs << " " << request.hidden;
    EXPECT_EQ(layout.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(CallLayoutTest, AllowsExactlyTheLargestPayload) {
  // 4096 rows of 8192 floats to 8 experts each: 1 GiB back.
  EXPECT_EQ(layout_of(call(4096, 32768, 8192, RowForms::kFloats))->reply_bytes, kPayloadBytesMax);
  EXPECT_FALSE(layout_of(call(4096, 32769, 8192, RowForms::kFloats)));
}

TEST(ModelKeyTest, IsTheFirstEightBytesOfTheSum) {
  ModelVersion model;
  EXPECT_EQ(model_key_of(model), 0u);
  model.sha256 = "0123456789abcdef" + std::string(48, 'f');
  EXPECT_EQ(model_key_of(model), 0x0123456789abcdefu);
  model.sha256 = std::string(64, 'f');
  EXPECT_EQ(model_key_of(model), 0xffffffffffffffffu);
  for (const char* other : {"0123456789abcde", "0123456789abcdeg", "-123456789abcdef"}) {
    model.sha256 = other;
    EXPECT_EQ(model_key_of(model), 0u) << other;
  }
}

}  // namespace
}  // namespace conclave::wire
