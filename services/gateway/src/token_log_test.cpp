#include "token_log.hpp"

#include <gmock/gmock.h>

namespace conclave::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wire::FinishReason;
using wire::ResumedChoice;

wire::StreamEvents tokens(std::vector<wire::TokenEvent> events) {
  return {.stream = 1, .prompt = {}, .tokens = std::move(events)};
}
wire::StreamEvents prompt(std::initializer_list<std::int32_t> ids) {
  wire::StreamEvents events;
  for (const std::int32_t id : ids) events.prompt.push_back({.token = id});
  return events;
}
void add(TokenLog& log, wire::StreamEvents events) { log.add(events); }

TEST(TokenLogTest, WhatHasNotBegunBeginsAnew) {
  TokenLog log(2, false);
  log.accepted(5);
  wire::Generate generate;
  log.resume(generate);
  EXPECT_THAT(generate.resume, IsEmpty());
  EXPECT_FALSE(generate.echo);
}

TEST(TokenLogTest, KeepsTheTokensOfEachChoice) {
  TokenLog log(3, false);
  add(log, tokens({{.choice = 0, .token = 7}, {.choice = 2, .token = 8}}));
  add(log, tokens({{.choice = 0, .token = 9},
                   {.choice = 2, .token = 1, .finish = FinishReason::kStop},
                   {.choice = 9, .token = 1}}));

  wire::Generate generate;
  log.resume(generate);

  EXPECT_THAT(generate.resume,
              ElementsAre(ResumedChoice{{7, 9}, false}, ResumedChoice{}, ResumedChoice{{}, true}));
}

TEST(TokenLogTest, APromptIsEchoedOnce) {
  TokenLog log(1, true);
  log.accepted(4);
  add(log, prompt({1, 2}));
  wire::Generate generate;
  log.resume(generate);
  EXPECT_TRUE(generate.echo);
  EXPECT_THAT(generate.resume, IsEmpty());

  wire::StreamEvents again = prompt({1});
  log.add(again);
  EXPECT_THAT(again.prompt, IsEmpty());
  again = prompt({2, 3, 4});
  log.add(again);
  ASSERT_THAT(again.prompt, SizeIs(2));
  EXPECT_EQ(again.prompt[0].token, 3);

  log.resume(generate);
  EXPECT_FALSE(generate.echo) << "the client has it all";
  add(log, tokens({{.token = 5}}));
  log.resume(generate);
  EXPECT_FALSE(generate.echo);
  EXPECT_THAT(generate.resume, ElementsAre(ResumedChoice{{5}, false}));
}

TEST(TokenLogTest, EndsSomewhere) {
  TokenLog log(1, false);
  wire::StreamEvents many;
  many.tokens.assign(std::size_t{1} << 20, {.token = 1});
  for (int i = 0; i < 4; ++i) log.add(many);
  EXPECT_FALSE(log.overflowed());
  add(log, tokens({{.token = 1}}));
  EXPECT_TRUE(log.overflowed());
}

}  // namespace
}  // namespace conclave::gateway
