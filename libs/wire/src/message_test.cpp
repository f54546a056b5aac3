#include "conclave/wire/message.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "testing_samples.hpp"

namespace conclave::wire {
namespace {

using base::ErrorCode;

TEST(MessageTest, RoundTripsEveryTypeWithEveryFieldSet) {
  const auto samples = testing_samples::messages();
  ASSERT_EQ(samples.size() + 1, kMessageTypes);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    SCOPED_TRACE(type_name(type_of(samples[i])));
    EXPECT_EQ(type_of(samples[i]), i + 1);

    const Bytes bytes = encode(samples[i]);
    const auto decoded = decode(type_of(samples[i]), bytes);

    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_TRUE(*decoded == samples[i]);
  }
}

TEST(MessageTest, RoundTripsEveryTypeEmpty) {
  for (const Message& message : testing_samples::empty_messages()) {
    SCOPED_TRACE(type_name(type_of(message)));

    const auto decoded = decode(type_of(message), encode(message));

    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_TRUE(*decoded == message);
  }
}

TEST(MessageTest, RoundTripsEnvelopes) {
  for (const Envelope& envelope : {testing_samples::envelope(), Envelope{}}) {
    const auto decoded = decode_envelope(encode(envelope));

    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_TRUE(*decoded == envelope);
  }
}

}  // namespace
}  // namespace conclave::wire
