#include "stream_book.hpp"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "conclave/gguf/file.hpp"

namespace conclave::router {
namespace {

using engine::FinishReason;
using engine::SequenceId;
using engine::TokenEvent;
using ::testing::ElementsAre;

constexpr SequenceId kFirst{11};
constexpr SequenceId kSecond{12};

class StreamBookTest : public ::testing::Test {
 protected:
  StreamBookTest()
      : file_(*gguf::File::open(CONCLAVE_SOURCE_DIR "/models/demo/conclave-demo.gguf")),
        tokenizer_(*tokenizer::Tokenizer::from_metadata(file_.metadata())),
        prompt_(*tokenizer_.encode("Is it?")) {}

  void open(StreamKey key, const std::vector<SequenceId>& sequences, StreamOptions options = {}) {
    std::vector<StreamBook::Running> running;
    for (const SequenceId id : sequences) {
      running.push_back({static_cast<std::uint32_t>(running.size()), id});
    }
    book_.open(key, running, prompt_, options, tokenizer_);
  }
  void collect(TokenEvent event) { book_.collect(event); }
  static TokenEvent token(SequenceId id, std::int32_t token, std::string text = "x") {
    TokenEvent event;
    event.id = id;
    event.token = token;
    event.text = std::move(text);
    return event;
  }
  static TokenEvent end(SequenceId id, FinishReason reason) {
    TokenEvent event;
    event.id = id;
    event.finish = reason;
    return event;
  }
  // The prompt's tokens from the second on, as the engine scores them.
  [[nodiscard]] TokenEvent scores(SequenceId id, std::size_t from, std::size_t count) const {
    TokenEvent event;
    event.id = id;
    for (std::size_t i = from; i < from + count; ++i) {
      event.prompt.push_back({prompt_[i], -0.5f, {{prompt_[i], -0.5f}}});
    }
    return event;
  }
  static std::vector<std::int32_t> ids(const std::vector<wire::TokenEvent>& events) {
    std::vector<std::int32_t> all;
    for (const wire::TokenEvent& event : events) all.push_back(event.token);
    return all;
  }
  static std::string text(const std::vector<wire::TokenEvent>& events) {
    std::string all;
    for (const wire::TokenEvent& event : events) all += event.text;
    return all;
  }

  gguf::File file_;
  tokenizer::Tokenizer tokenizer_;
  std::vector<std::int32_t> prompt_;
  StreamBook book_;
};

TEST_F(StreamBookTest, EventsGoToTheirStreamsAndChoices) {
  open(1, {kFirst, kSecond});
  open(2, {SequenceId{20}});

  collect(token(kSecond, 5, "b"));
  collect(token(SequenceId{20}, 6, "c"));
  collect(token(kFirst, 7, "a"));
  const EngineNews news = book_.take_news();

  ASSERT_EQ(news.events.size(), 2u);
  EXPECT_EQ(news.events[0].stream, 1u);
  EXPECT_THAT(ids(news.events[0].tokens), ElementsAre(5, 7));
  EXPECT_EQ(news.events[0].tokens[0].choice, 1u);
  EXPECT_EQ(news.events[0].tokens[1].choice, 0u);
  EXPECT_EQ(news.events[1].stream, 2u);
  EXPECT_EQ(news.events[1].tokens[0].text, "c");
  EXPECT_TRUE(book_.take_news().empty());
}

TEST_F(StreamBookTest, LogprobsAndPiecesAreThereIfTheyAreWanted) {
  open(1, {kFirst}, {.logprobs = true});
  open(2, {kSecond});
  TokenEvent event = token(kFirst, 40);
  event.logprob = -1.5f;
  event.top = {{40, -1.5f}, {41, -2.5f}};
  TokenEvent plain = event;
  plain.id = kSecond;

  collect(event);
  collect(plain);
  const EngineNews news = book_.take_news();

  const wire::TokenEvent& scored = news.events[0].tokens[0];
  EXPECT_EQ(scored.logprob, -1.5f);
  EXPECT_EQ(scored.piece, tokenizer_.piece(40));
  ASSERT_EQ(scored.top.size(), 2u);
  EXPECT_EQ(scored.top[1].piece, tokenizer_.piece(41));
  EXPECT_TRUE(news.events[1].tokens[0].piece.empty());
  EXPECT_TRUE(news.events[1].tokens[0].top.empty());
}

TEST_F(StreamBookTest, ChoicesThatGoOnKeepTheirPlaces) {
  book_.open(1, {{1, kFirst}, {3, kSecond}}, prompt_, {}, tokenizer_);
  EXPECT_THAT(book_.running(1), ElementsAre(kFirst, kSecond));

  collect(token(kSecond, 5));
  collect(end(kFirst, FinishReason::kStop));
  const EngineNews news = book_.take_news();

  EXPECT_EQ(news.events[0].tokens[0].choice, 3u);
  EXPECT_EQ(news.events[0].tokens[1].choice, 1u);
  EXPECT_THAT(book_.running(1), ElementsAre(kSecond));
}

TEST_F(StreamBookTest, EveryEndIsTold) {
  open(1, {kFirst, kSecond});
  EXPECT_THAT(book_.running(1), ElementsAre(kFirst, kSecond));

  collect(end(kFirst, FinishReason::kStop));
  EXPECT_THAT(book_.running(1), ElementsAre(kSecond));
  TokenEvent failed = end(kSecond, FinishReason::kError);
  failed.error = {base::ErrorCode::kUnavailable, "why"};
  collect(failed);
  const EngineNews news = book_.take_news();

  EXPECT_TRUE(book_.running(1).empty());
  ASSERT_EQ(news.events.size(), 1u);
  EXPECT_EQ(news.events[0].tokens[0].finish, wire::FinishReason::kStop);
  EXPECT_EQ(news.events[0].tokens[1].finish, wire::FinishReason::kError);
  EXPECT_EQ(news.events[0].tokens[1].error.message, "why");
}

TEST_F(StreamBookTest, EventsOfNobodyAreDropped) {
  open(1, {kFirst});
  collect(end(kFirst, FinishReason::kLength));
  static_cast<void>(book_.take_news());

  collect(token(kFirst, 5));
  collect(token(SequenceId{99}, 5));

  EXPECT_TRUE(book_.take_news().empty());
  EXPECT_TRUE(book_.running(77).empty());
}

TEST_F(StreamBookTest, AnEchoWithoutLogprobsIsTheWholePromptAtOnce) {
  open(1, {kFirst}, {.echo = true});

  const EngineNews news = book_.take_news();

  ASSERT_EQ(news.events.size(), 1u);
  EXPECT_EQ(ids(news.events[0].prompt), prompt_);
  EXPECT_EQ(text(news.events[0].prompt), "Is it?");
}

TEST_F(StreamBookTest, AnEchoWithLogprobsComesAsThePromptIsScored) {
  open(1, {kFirst}, {.echo = true, .logprobs = true});
  collect(scores(kFirst, 1, 1));
  collect(scores(kFirst, 2, prompt_.size() - 2));

  const EngineNews news = book_.take_news();

  ASSERT_EQ(news.events.size(), 1u);
  EXPECT_EQ(ids(news.events[0].prompt), prompt_);
  EXPECT_EQ(text(news.events[0].prompt), "Is it?");
  EXPECT_TRUE(news.events[0].prompt[0].top.empty());
  EXPECT_EQ(news.events[0].prompt[1].logprob, -0.5f);
  EXPECT_EQ(news.events[0].prompt[1].piece, tokenizer_.piece(prompt_[1]));
}

TEST_F(StreamBookTest, ThePromptComesBeforeWhatOtherChoicesGave) {
  open(1, {kFirst, kSecond}, {.echo = true, .logprobs = true});
  collect(token(kSecond, 5));
  collect(end(kSecond, FinishReason::kLength));
  const EngineNews before = book_.take_news();
  ASSERT_EQ(before.events.size(), 1u);
  EXPECT_TRUE(before.events[0].tokens.empty());

  TokenEvent last = scores(kFirst, 1, prompt_.size() - 1);
  last.token = 6;
  collect(last);
  const EngineNews after = book_.take_news();

  ASSERT_EQ(after.events.size(), 1u);
  EXPECT_EQ(after.events[0].prompt.size(), prompt_.size() - 1);
  EXPECT_THAT(ids(after.events[0].tokens), ElementsAre(5, tokenizer::kNoToken, 6));
}

TEST_F(StreamBookTest, WhatWaitedForThePromptIsToldIfThatIsCutShort) {
  open(1, {kFirst, kSecond}, {.echo = true, .logprobs = true});
  collect(token(kSecond, 5));
  collect(end(kFirst, FinishReason::kCancelled));

  const EngineNews news = book_.take_news();

  ASSERT_EQ(news.events.size(), 1u);
  EXPECT_THAT(ids(news.events[0].tokens), ElementsAre(5, tokenizer::kNoToken));
}

TEST_F(StreamBookTest, APromptThatEndsWithinACharacterIsStillText) {
  // The first byte of a character of two.
  const auto part = tokenizer_.encode("\xc3\xa9", {.add_special = false})->front();
  if (tokenizer_.piece(part).size() != 1) GTEST_SKIP() << "one token spells it";
  prompt_ = {part};

  open(1, {kFirst}, {.echo = true});

  EXPECT_EQ(text(book_.take_news().events.at(0).prompt), "\xef\xbf\xbd");
}

TEST_F(StreamBookTest, AllEndWithTheErrorOfTheirModel) {
  open(1, {kFirst, kSecond}, {.echo = true, .logprobs = true});
  open(2, {SequenceId{20}});
  collect(token(kSecond, 5));

  book_.fail_all({base::ErrorCode::kUnavailable, "replaced"});
  const EngineNews news = book_.take_news();

  std::size_t ends = 0;
  std::size_t tokens = 0;
  for (const wire::StreamEvents& events : news.events) {
    for (const wire::TokenEvent& event : events.tokens) {
      if (event.token != tokenizer::kNoToken) ++tokens;
      if (event.finish != wire::FinishReason::kError) continue;
      ++ends;
      EXPECT_EQ(event.error.message, "replaced");
    }
  }
  EXPECT_EQ(ends, 3u);
  EXPECT_EQ(tokens, 1u);
  EXPECT_TRUE(book_.running(1).empty());
}

}  // namespace
}  // namespace conclave::router
