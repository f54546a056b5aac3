#include "token_messages.hpp"

#include <gtest/gtest.h>

#include <string>

#include "conclave/wire/message.hpp"

namespace conclave::router {
namespace {

wire::TokenEvent token(std::int32_t id, std::string text = "x") {
  return {.token = id, .text = std::move(text)};
}

// All events of a stream, over all messages: its prompt's, then its tokens'.
std::vector<std::int32_t> tokens_of(const std::vector<wire::TokenEvents>& messages,
                                    std::uint64_t stream) {
  std::vector<std::int32_t> all;
  for (const wire::TokenEvents& message : messages) {
    for (const wire::StreamEvents& events : message.streams) {
      if (events.stream != stream) continue;
      for (const wire::TokenEvent& event : events.prompt) all.push_back(event.token);
      for (const wire::TokenEvent& event : events.tokens) all.push_back(event.token);
    }
  }
  return all;
}

TEST(TokenMessagesTest, WithoutEventsThereIsNoMessage) {
  TokenMessages messages;

  EXPECT_TRUE(messages.take().empty());
}

TEST(TokenMessagesTest, AStepOfManyStreamsIsOneMessage) {
  TokenMessages messages;
  for (std::uint64_t stream = 1; stream <= 64; ++stream) {
    messages.add({.stream = stream, .tokens = {token(static_cast<std::int32_t>(stream))}});
  }

  const auto taken = messages.take();

  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].streams.size(), 64u);
  EXPECT_EQ(tokens_of(taken, 64), std::vector<std::int32_t>{64});
  EXPECT_TRUE(messages.take().empty());
}

TEST(TokenMessagesTest, ALongPromptGoesOverSeveralInOrder) {
  TokenMessages messages(1000);
  wire::StreamEvents events{.stream = 7};
  std::vector<std::int32_t> expected;
  for (std::int32_t id = 0; id < 100; ++id) {
    events.prompt.push_back(token(id));
    expected.push_back(id);
  }
  events.tokens.push_back(token(100));
  expected.push_back(100);

  messages.add(std::move(events));
  const auto taken = messages.take();

  EXPECT_GT(taken.size(), 5u);
  EXPECT_EQ(tokens_of(taken, 7), expected);
  for (const wire::TokenEvents& message : taken) EXPECT_FALSE(message.streams.empty());
}

TEST(TokenMessagesTest, NoMessageIsLargerThanItsBound) {
  TokenMessages messages(64 * 1024);
  for (std::uint64_t stream = 1; stream <= 40; ++stream) {
    wire::StreamEvents events{.stream = stream};
    for (std::int32_t id = 0; id < 30; ++id) {
      wire::TokenEvent event = token(id, std::string(100, 'y'));
      event.piece = std::string(50, 'z');
      for (std::int32_t top = 0; top < 20; ++top) event.top.push_back({top, -1.0f, "piece"});
      event.error.message = "why";
      events.tokens.push_back(std::move(event));
    }
    messages.add(std::move(events));
  }

  const auto taken = messages.take();

  EXPECT_GT(taken.size(), 10u);
  for (const wire::TokenEvents& message : taken) {
    EXPECT_LE(wire::encode(message).size(), 64u * 1024);
  }
}

TEST(TokenMessagesTest, AnEventThatIsTooLargeIsSentAlone) {
  TokenMessages messages(100);
  messages.add({.stream = 1, .tokens = {token(1), token(2, std::string(500, 'x')), token(3)}});

  const auto taken = messages.take();

  EXPECT_EQ(tokens_of(taken, 1), (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(taken.size(), 3u);
}

}  // namespace
}  // namespace conclave::router
