#include "conclave/wire/message.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>

#include "conclave/base/utf8.hpp"
#include "conclave/wire/limits.hpp"
#include "testing_build.hpp"
#include "testing_samples.hpp"

namespace conclave::wire {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

TEST(MessageTest, RoundTripsEveryTypeWithEveryFieldSet) {
  const auto samples = testing_samples::messages();
  ASSERT_EQ(samples.size() + 1, kMessageTypes);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    SCOPED_TRACE(type_name(type_of(samples[i])));
    EXPECT_EQ(type_of(samples[i]), i + 1);

    const auto decoded = decode(type_of(samples[i]), encode(samples[i]));

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

TEST(MessageTest, KeepsEnvelopesOfUnknownTypesForRelays) {
  Envelope envelope = testing_samples::envelope();
  envelope.type = 65535;

  const auto decoded = decode_envelope(encode(envelope));

  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->type, 65535);
}

TEST(MessageTest, RoundTripsMessagesOfManySegments) {
  // Far beyond what the encoder holds on its stack, so that it grows several times.
  Generate generate;
  for (int i = 0; i < 300'000; ++i) generate.tokens.push_back(i);
  generate.text = std::string(1'000'000, 'x');
  generate.sampling.logit_bias.resize(kLogitBiasMax, {.token = 3, .bias = 1.0f});

  const Bytes bytes = encode(generate);
  const auto decoded = decode(kTypeOf<Generate>, bytes);

  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_TRUE(*decoded == Message(generate));
  // Nothing is left of the pointers between segments.
  const Bytes one_segment = testing_build::build_from(
      generate, [](auto) {}, 1 << 20);
  EXPECT_EQ(bytes.size(), one_segment.size());
}

TEST(MessageTest, DecodesAtAnyAlignment) {
  for (const Message& message : testing_samples::messages()) {
    const Bytes bytes = encode(message);
    std::vector<std::byte> moved(bytes.size() + 8);
    for (std::size_t offset = 0; offset < 8; ++offset) {
      std::memcpy(moved.data() + offset, bytes.data(), bytes.size());
      const auto decoded = decode(type_of(message), std::span(moved).subspan(offset, bytes.size()));
      ASSERT_TRUE(decoded) << decoded.error().to_string();
      EXPECT_TRUE(*decoded == message) << type_name(type_of(message));
    }
  }
}

TEST(MessageTest, HasNoBytesWithoutBody) {
  EXPECT_TRUE(encode(Message()).empty());

  const auto none = decode(0, {});
  ASSERT_TRUE(none);
  EXPECT_TRUE(*none == Message());
  const Bytes some(16);
  ASSERT_FALSE(decode(0, some));
  EXPECT_EQ(decode(0, some).error().code, ErrorCode::kCorruptData);
}

TEST(MessageTest, RefusesUnknownTypes) {
  const Bytes bytes = encode(Nudge{});
  for (const std::size_t type : {kMessageTypes, std::size_t{65535}}) {
    const auto decoded = decode(static_cast<std::uint16_t>(type), bytes);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kUnimplemented);
    EXPECT_THAT(decoded.error().message, HasSubstr(std::to_string(type)));
  }
}

TEST(MessageTest, NamesEveryTypeOnce) {
  std::set<std::string_view> names;
  for (std::uint16_t type = 0; type < kMessageTypes; ++type) {
    EXPECT_NE(type_name(type), "unknown");
    EXPECT_TRUE(names.insert(type_name(type)).second) << type_name(type);
  }
  EXPECT_EQ(type_name(kTypeOf<Generate>), "generate");
  EXPECT_EQ(type_name(kTypeOf<ExpertCall>), "expert_call");
  EXPECT_EQ(type_name(kMessageTypes), "unknown");
}

TEST(MessageTest, PassesAnyFloat) {
  Generate generate;
  generate.sampling.temperature = std::numeric_limits<float>::quiet_NaN();
  generate.sampling.top_p = -std::numeric_limits<float>::infinity();
  generate.sampling.min_p = std::numeric_limits<float>::denorm_min();

  const auto decoded = decode(kTypeOf<Generate>, encode(generate));

  ASSERT_TRUE(decoded);
  const Sampling& sampling = std::get<Generate>(*decoded).sampling;
  EXPECT_TRUE(std::isnan(sampling.temperature));
  EXPECT_EQ(sampling.top_p, generate.sampling.top_p);
  EXPECT_EQ(sampling.min_p, generate.sampling.min_p);
}

TEST(MessageTest, DistinguishesNoLimitOfTokensFromNoTokens) {
  for (const std::optional<std::uint32_t> max_tokens :
       {std::optional<std::uint32_t>(), {0u}, {9u}}) {
    Generate generate;
    generate.max_tokens = max_tokens;
    const auto decoded = decode(kTypeOf<Generate>, encode(generate));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(std::get<Generate>(*decoded).max_tokens, max_tokens);
  }
}

TEST(MessageTest, CutsAndMendsWhatPeopleReadInsteadOfRefusingIt) {
  const auto sent = [](std::string message) {
    const auto decoded =
        decode(kTypeOf<ErrorBody>, encode(ErrorBody{{ErrorCode::kInternal, std::move(message)}}));
    return decoded ? std::get<ErrorBody>(*decoded).error.message : decoded.error().to_string();
  };
  EXPECT_EQ(sent("tensor '\xFF' is odd"), "tensor '\xEF\xBF\xBD' is odd");
  EXPECT_EQ(sent(std::string(kErrorBytesMax + 1, 'x')), std::string(kErrorBytesMax, 'x'));
  // The cut would fall within the last character.
  EXPECT_EQ(sent(std::string(kErrorBytesMax - 1, 'x') + "€"), std::string(kErrorBytesMax - 1, 'x'));
  // Every bad byte becomes three.
  const std::string mended = sent(std::string(kErrorBytesMax, '\xFF'));
  EXPECT_EQ(mended.size(), kErrorBytesMax / 3 * 3);
  EXPECT_TRUE(base::utf8::valid(mended));

  NodeReport report;
  report.reason = std::string(kErrorBytesMax, 'y') + "\xFF";
  const auto decoded = decode(kTypeOf<NodeReport>, encode(report));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<NodeReport>(*decoded).reason, std::string(kErrorBytesMax, 'y'));
}

TEST(MessageTest, NamesEveryRole) {
  std::set<std::string_view> names;
  for (int role = 1; role <= kNodeRoleCount; ++role) {
    names.insert(to_string(static_cast<NodeRole>(role)));
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"gateway", "router", "expert-worker", "scheduler",
                                               "registry", "operator"}));
}

using MessageDeathTest = testing::Test;

TEST(MessageDeathTest, EncodesNothingBeyondALimit) {
  EXPECT_DEATH(encode(Hello{.node = std::string(kNameBytesMax + 1, 'n')}), "");
  Envelope envelope;
  envelope.target = std::string(kNameBytesMax + 1, 't');
  EXPECT_DEATH(encode(envelope), "");
}

}  // namespace
}  // namespace conclave::wire
