#include "conclave/tokenizer/stream_decoder.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "testing_vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using testing_vocabulary::byte_bpe;
using testing_vocabulary::sentence_piece;

class StreamDecoderTest : public testing::Test {
 protected:
  static Tokenizer load(const gguf::Metadata& metadata) {
    auto tokenizer = Tokenizer::from_metadata(metadata);
    if (!tokenizer) throw std::runtime_error(tokenizer.error().to_string());
    return std::move(*tokenizer);
  }

  static TokenId byte(int value) { return value; }  // see byte_bpe()

  const Tokenizer bpe_ = load(byte_bpe().metadata());
  const Tokenizer spm_ = load(sentence_piece().metadata());
};

TEST_F(StreamDecoderTest, HoldsACharacterBackUntilItIsWhole) {
  StreamDecoder stream(bpe_);
  EXPECT_EQ(stream.push(byte('a')), "a");
  EXPECT_EQ(stream.push(byte(0xF0)), "");
  EXPECT_EQ(stream.push(byte(0x9F)), "");
  EXPECT_EQ(stream.push(byte(0x99)), "");
  EXPECT_EQ(stream.push(byte(0x82)), "🙂");
  EXPECT_EQ(stream.flush(), "");
}

TEST_F(StreamDecoderTest, ReplacesWhatCannotBecomeACharacter) {
  StreamDecoder stream(bpe_);
  EXPECT_EQ(stream.push(byte(0xE2)), "");
  EXPECT_EQ(stream.push(byte('x')), "\uFFFDx");
  EXPECT_EQ(stream.push(byte(0x80)), "\uFFFD");
  EXPECT_EQ(stream.push(byte(0xE2)), "");
  EXPECT_EQ(stream.push(byte(0x82)), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
}

TEST_F(StreamDecoderTest, TakesTheFirstSpaceOfSentencePieceAway) {
  StreamDecoder stream(spm_);
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(spm_.find("▁hello")), "hello");
  EXPECT_EQ(stream.push(spm_.find("▁world")), " world");
  EXPECT_EQ(stream.flush(), "");
  EXPECT_EQ(stream.push(spm_.find("▁hello")), "hello");  // as new after flush

  StreamDecoder continuing(spm_, {.strip_leading_space = false});
  EXPECT_EQ(continuing.push(spm_.find("▁hello")), " hello");
}

TEST_F(StreamDecoderTest, ByteTokensOfSentencePieceFormCharacters) {
  StreamDecoder stream(spm_);
  EXPECT_EQ(stream.push(spm_.find("<0xE4>")), "");
  EXPECT_EQ(stream.push(spm_.find("<0xBD>")), "");
  EXPECT_EQ(stream.push(spm_.find("<0xA0>")), "你");
}

TEST_F(StreamDecoderTest, AgreesWithDecodeForEveryPairOfBytes) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      StreamDecoder stream(bpe_);
      const std::vector<TokenId> ids = {byte(first), byte(second), byte(0x80), byte('.')};
      std::string text;
      for (const TokenId id : ids) text += stream.push(id);
      text += stream.flush();
      ASSERT_EQ(text, base::utf8::sanitize(bpe_.decode(ids))) << first << " " << second;
    }
  }
}

TEST_F(StreamDecoderTest, LeavesSpecialTokensOutUnlessAsked) {
  StreamDecoder without(bpe_);
  EXPECT_EQ(without.push(bpe_.find("<|im_end|>")), "");
  StreamDecoder with(bpe_, {.skip_special = false});
  EXPECT_EQ(with.push(bpe_.find("<|im_end|>")), "<|im_end|>");
}

}  // namespace
}  // namespace conclave::tokenizer
