#include "prefix_index.hpp"

#include <gmock/gmock.h>

#include <string>

namespace conclave::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr RouterId kA{1};
constexpr RouterId kB{2};
constexpr std::size_t kBlockBytes = kPrefixBlockTokens * kBytesPerToken;

wire::Generate text(std::string text) { return {.model = "m", .text = std::move(text)}; }

std::string blocks(std::size_t count, char letter = 'a') {
  return std::string(count * kBlockBytes, letter);
}

TEST(PrefixIndexTest, PromptsThatBeginAlikeHaveTheSameFirstBlocks) {
  const auto first = prefix_blocks(text(blocks(2) + blocks(1, 'b') + "the rest"));
  const auto second = prefix_blocks(text(blocks(2) + blocks(2, 'c')));

  EXPECT_THAT(first, SizeIs(3));
  EXPECT_THAT(second, SizeIs(4));
  EXPECT_EQ(first[0], second[0]);
  EXPECT_EQ(first[1], second[1]);
  EXPECT_NE(first[2], second[2]);
  EXPECT_NE(first[0], first[1]);
  EXPECT_THAT(prefix_blocks(text("short")), IsEmpty());
  EXPECT_THAT(prefix_blocks(text(blocks(2 * kPrefixBlocksMax))), SizeIs(kPrefixBlocksMax));
}

TEST(PrefixIndexTest, WhatRoutersKeepApartIsApart) {
  const wire::Generate plain = text(blocks(1));
  wire::Generate salted = plain;
  salted.cache_salt = "tenant";
  wire::Generate chat = plain;
  chat.kind = wire::PromptKind::kChat;
  wire::Generate other = plain;
  other.model = "n";
  for (const wire::Generate& request : {salted, chat, other}) {
    EXPECT_NE(prefix_blocks(request), prefix_blocks(plain));
  }
}

TEST(PrefixIndexTest, TokensHaveBlocksToo) {
  wire::Generate request{.model = "m", .kind = wire::PromptKind::kTokens};
  request.tokens.assign(2 * kPrefixBlockTokens + 1, 7);
  EXPECT_THAT(prefix_blocks(request), SizeIs(2));
  EXPECT_EQ(estimated_tokens(request), 2 * kPrefixBlockTokens + 1);
  EXPECT_EQ(estimated_tokens(text(std::string(40, 'x'))), 10u);
}

TEST(PrefixIndexTest, KnowsHowMuchEachRouterHas) {
  PrefixIndex index(100);
  index.note(prefix_blocks(text(blocks(2))), kA);
  index.note(prefix_blocks(text(blocks(3))), kB);

  const auto known = index.find(prefix_blocks(text(blocks(5))));

  EXPECT_THAT(known, UnorderedElementsAre(KnownPrefix{kA, 2 * kPrefixBlockTokens},
                                          KnownPrefix{kB, 3 * kPrefixBlockTokens}));
  EXPECT_THAT(index.find(prefix_blocks(text(blocks(2, 'x')))), IsEmpty());
}

TEST(PrefixIndexTest, ARouterThatWentKnowsNothing) {
  PrefixIndex index(100);
  const auto prompt = prefix_blocks(text(blocks(2)));
  index.note(prompt, kA);
  index.note(prompt, kB);

  index.forget(kB);
  EXPECT_THAT(index.find(prompt), ElementsAre(KnownPrefix{kA, 2 * kPrefixBlockTokens}));
  index.forget(kA);
  EXPECT_THAT(index.find(prompt), IsEmpty());
  EXPECT_EQ(index.size(), 0u);
}

TEST(PrefixIndexTest, KeepsTheBlocksUsedLast) {
  PrefixIndex index(4);
  const auto first = prefix_blocks(text(blocks(2, 'a')));
  const auto second = prefix_blocks(text(blocks(2, 'b')));
  index.note(first, kA);
  index.note(second, kA);
  index.note(first, kA);

  index.note(prefix_blocks(text(blocks(2, 'c'))), kA);

  EXPECT_EQ(index.size(), 4u);
  EXPECT_THAT(index.find(first), SizeIs(1));
  EXPECT_THAT(index.find(second), IsEmpty());
  index.note(prefix_blocks(text(blocks(9, 'd'))), kB);
  EXPECT_THAT(index.find(prefix_blocks(text(blocks(9, 'd')))),
              ElementsAre(KnownPrefix{kB, 4 * kPrefixBlockTokens}));
}

TEST(PrefixIndexTest, HasRoomForAFewHoldersOfABlock) {
  PrefixIndex index(100);
  const auto prompt = prefix_blocks(text(blocks(1)));
  for (std::uint64_t router = 1; router <= 9; ++router) index.note(prompt, RouterId{router});
  const auto known = index.find(prompt);
  EXPECT_THAT(known, SizeIs(4));
  EXPECT_EQ(known.front().router, RouterId{9});
}

TEST(PrefixIndexTest, MayBeOff) {
  PrefixIndex index(0);
  index.note(prefix_blocks(text(blocks(2))), kA);
  EXPECT_THAT(index.find(prefix_blocks(text(blocks(2)))), IsEmpty());
}

}  // namespace
}  // namespace conclave::gateway
