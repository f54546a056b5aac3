#include "vocabulary.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "conclave/tokenizer/tokenizer.hpp"
#include "testing_vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using testing_vocabulary::Builder;
using testing_vocabulary::byte_bpe;
using testing_vocabulary::kTypeControl;
using testing_vocabulary::kTypeNormal;
using testing_vocabulary::kTypeUnused;
using testing_vocabulary::sentence_piece;

// The error of loading `metadata` has the code, and names the key.
void expect_refused(const gguf::Metadata& metadata, ErrorCode code, const std::string& part) {
  const auto tokenizer = Tokenizer::from_metadata(metadata);
  ASSERT_FALSE(tokenizer) << part;
  EXPECT_EQ(tokenizer.error().code, code) << tokenizer.error().to_string();
  EXPECT_NE(tokenizer.error().message.find(part), std::string::npos)
      << tokenizer.error().to_string();
}

void expect_corrupt(Builder builder, const std::function<void(Builder&)>& damage,
                    const std::string& part) {
  damage(builder);
  expect_refused(builder.metadata(), ErrorCode::kCorruptData, part);
}

TEST(VocabularyTest, NamesTheModelThatItDoesNotSupport) {
  for (const char* const model : {"bert", "t5", "rwkv", "plamo2", "none", "gemma4"}) {
    gguf::Metadata metadata = byte_bpe().metadata();
    metadata.set("tokenizer.ggml.model", {std::string(model)});
    expect_refused(metadata, ErrorCode::kUnimplemented, model);
  }
}

TEST(VocabularyTest, NamesTheKeyThatIsMissing) {
  expect_refused({}, ErrorCode::kNotFound, "tokenizer.ggml.model");
  gguf::Metadata metadata;
  metadata.set("tokenizer.ggml.model", {std::string("gpt2")});
  expect_refused(metadata, ErrorCode::kNotFound, "tokenizer.ggml.tokens");
}

TEST(VocabularyTest, RefusesArraysThatDisagree) {
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.types.pop_back(); }, "token_type");
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.types.push_back(1); }, "token_type");
  expect_corrupt(
      sentence_piece(), [](Builder& b) { b.scores.pop_back(); }, "scores");
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.tokens.clear(); }, "tokens");
}

TEST(VocabularyTest, RefusesTokensThatAreEmptyTwiceThereOrHuge) {
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.tokens[7].clear(); }, "token 7");
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.tokens[7] = b.tokens[9]; }, "tokens 7 and 9");
  expect_corrupt(
      byte_bpe(), [](Builder& b) { b.tokens[7].assign(70000, 'x'); }, "token 7");
}

TEST(VocabularyTest, RefusesScoresThatAreNoNumbers) {
  for (const float score :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    expect_corrupt(
        sentence_piece(), [&](Builder& b) { b.scores[5] = score; }, "score 5");
  }
}

TEST(VocabularyTest, RefusesMergesThatNameNoTokens) {
  for (const char* const merge : {"", " ", "x", "x ", "he xyz", "xyz he", "h h"}) {
    expect_corrupt(
        byte_bpe(), [&](Builder& b) { b.merges.push_back(merge); },
        "tokenizer.ggml.merges: merge 12");
  }
}

TEST(VocabularyTest, RefusesSpecialIdsOutsideOfTheVocabulary) {
  gguf::Metadata metadata = byte_bpe().metadata();
  metadata.set("tokenizer.ggml.eos_token_id", {std::uint32_t{100000}});
  expect_refused(metadata, ErrorCode::kCorruptData, "tokenizer.ggml.eos_token_id");

  metadata.set("tokenizer.ggml.eos_token_id", {std::uint32_t{1}});
  metadata.set("tokenizer.ggml.add_bos_token", {true});
  expect_refused(metadata, ErrorCode::kCorruptData, "tokenizer.ggml.add_bos_token");
}

TEST(VocabularyTest, RefusesKeysOfTheWrongType) {
  gguf::Metadata metadata = byte_bpe().metadata();
  metadata.set("tokenizer.ggml.tokens", {std::string("no array")});
  expect_refused(metadata, ErrorCode::kCorruptData, "tokenizer.ggml.tokens");
}

TEST(VocabularyTest, FindsTheEndOfGenerationByKeyAndByText) {
  Builder builder = byte_bpe();
  const TokenId custom = builder.add("<my-end>", kTypeControl);
  gguf::Metadata metadata = builder.metadata();
  metadata.set("tokenizer.ggml.eos_token_id", {static_cast<std::uint32_t>(custom)});

  const auto tokenizer = Tokenizer::from_metadata(metadata);

  ASSERT_TRUE(tokenizer);
  EXPECT_TRUE(tokenizer->is_end_of_generation(custom));
  EXPECT_TRUE(tokenizer->is_end_of_generation(tokenizer->find("<|im_end|>")));
  EXPECT_TRUE(tokenizer->is_end_of_generation(tokenizer->find("<|endoftext|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(tokenizer->find("<|im_start|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(kNoToken));
  EXPECT_EQ(tokenizer->end_of_generation().size(), 3u);
  EXPECT_EQ(tokenizer->special().eot, tokenizer->find("<|im_end|>"));
}

TEST(VocabularyTest, MakesAControlTokenOfAKnownEndThatTheFileCallsNormal) {
  Builder builder = byte_bpe();
  const TokenId eot = builder.add("<|eot_id|>", kTypeNormal);

  const auto tokenizer = Tokenizer::from_metadata(builder.metadata());

  ASSERT_TRUE(tokenizer);
  EXPECT_TRUE(tokenizer->is_control(eot));
  EXPECT_EQ(tokenizer->special().eot, eot);
}

TEST(VocabularyTest, LetsAHarmonyMessageEndWithoutEndingTheTurn) {
  Builder builder = byte_bpe();
  const TokenId end = builder.add("<|end|>", kTypeControl);
  const TokenId call = builder.add("<|call|>", kTypeControl);
  const TokenId returned = builder.add("<|return|>", kTypeControl);
  const TokenId channel = builder.add("<|channel|>", kTypeControl);

  const auto tokenizer = Tokenizer::from_metadata(builder.metadata());

  ASSERT_TRUE(tokenizer);
  EXPECT_FALSE(tokenizer->is_end_of_generation(end));
  EXPECT_TRUE(tokenizer->is_end_of_generation(call));
  EXPECT_TRUE(tokenizer->is_end_of_generation(returned));
  EXPECT_TRUE(tokenizer->is_user_defined(channel));
  EXPECT_TRUE(tokenizer->is_user_defined(end));
}

TEST(VocabularyTest, GivesEachKindOfTokenItsBytes) {
  Builder builder = sentence_piece();
  const TokenId unused = builder.add("[PAD]x", kTypeUnused);
  const auto tokenizer = Tokenizer::from_metadata(builder.metadata());

  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->piece(tokenizer->find("<0x0A>")), "\n");
  EXPECT_EQ(tokenizer->piece(tokenizer->find("▁▁")), "  ");
  EXPECT_EQ(tokenizer->piece(tokenizer->find("▁hello")), " hello");
  EXPECT_EQ(tokenizer->piece(tokenizer->find("<s>")), "<s>");
  EXPECT_EQ(tokenizer->piece(unused), "");
  EXPECT_EQ(tokenizer->token_text(unused), "[PAD]x");
  EXPECT_EQ(tokenizer->piece(kNoToken), "");
  EXPECT_EQ(tokenizer->piece(1 << 30), "");
  EXPECT_EQ(tokenizer->token_text(1 << 30), "");
  EXPECT_TRUE(tokenizer->is_byte(tokenizer->find("<0xFF>")));
  EXPECT_TRUE(tokenizer->is_unknown(0));
  EXPECT_FALSE(tokenizer->is_control(1 << 30));
  EXPECT_EQ(tokenizer->find("no such token"), kNoToken);
}

TEST(VocabularyTest, ReadsHexTokens) {
  EXPECT_EQ(byte_of_hex_token("<0x0A>"), 10);
  EXPECT_EQ(byte_of_hex_token("<0xfF>"), 255);
  EXPECT_EQ(byte_of_hex_token("<0x0G>"), -1);
  EXPECT_EQ(byte_of_hex_token("<0x0A"), -1);
  EXPECT_EQ(byte_of_hex_token(""), -1);
}

}  // namespace
}  // namespace conclave::tokenizer
