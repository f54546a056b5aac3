#include "conclave/tokenizer/tokenizer.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "testing_vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using testing_vocabulary::Builder;
using testing_vocabulary::byte_bpe;
using testing_vocabulary::kTypeControl;
using testing_vocabulary::sentence_piece;
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kPlain{.parse_special = false, .add_special = false};
constexpr EncodeOptions kSpecial{.parse_special = true, .add_special = false};

Tokenizer load(const gguf::Metadata& metadata) {
  auto tokenizer = Tokenizer::from_metadata(metadata);
  if (!tokenizer) throw std::runtime_error(tokenizer.error().to_string());
  return std::move(*tokenizer);
}

Ids encode(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options) {
  const auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids) << ids.error().to_string();
  return *ids;
}

std::vector<std::string> texts_of(const Tokenizer& tokenizer, const Ids& ids) {
  std::vector<std::string> texts;
  for (const TokenId id : ids) texts.emplace_back(tokenizer.token_text(id));
  return texts;
}

using Texts = std::vector<std::string>;

// Texts that have broken tokenizers before.
const std::vector<std::string>& awkward_texts() {
  static const std::vector<std::string> texts = {
      "",
      " ",
      "       ",
      "        ",
      "\n\n \t\r\n",
      "a\r\nb\rc",
      std::string("nul\0inside\0", 11),
      "hello world",
      "  hello  world  ",
      "👩‍💻🏳️‍🌈🇫🇷",
      "日本語のテキスト、漢字",
      "e\u0301\u0323 नमस्ते สวัสดี",
      "<|im_start|>hello<|im_end|>",
      "\u2581\u2581 already marked",
      "\u00A0\u2003\u200B\uFEFF",
      "ſ K ß ﬁ İ",
  };
  return texts;
}

TEST(TokenizerTest, ByteLevelBpeGivesBackEveryText) {
  for (const char* const pre : {"default", "gpt-2", "qwen2", "llama-bpe", "deepseek-v3",
                                "deepseek-llm", "gpt-4o", "tekken", "kimi-k2", "bloom"}) {
    Builder builder = byte_bpe();
    builder.pre = pre;
    const Tokenizer tokenizer = load(builder.metadata());
    for (const std::string& text : awkward_texts()) {
      EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, kPlain)), text) << pre;
      const DecodeOptions all{.skip_special = false};
      EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, kSpecial), all), text) << pre;
    }
  }
}

TEST(TokenizerTest, SentencePieceGivesBackEveryTextWithoutMarks) {
  const Tokenizer tokenizer = load(sentence_piece().metadata());
  for (const std::string& text : awkward_texts()) {
    if (text.find("\u2581") != std::string::npos) continue;  // the mark is a space to the model
    EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, kPlain)), text);
  }
}

TEST(TokenizerTest, MergesWordsByRank) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "hello world", kPlain)),
            (Texts{"hello", "Ġworld"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "hell", kPlain)), (Texts{"hell"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "é", kPlain)), (Texts{"Ã©"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "aaaaaaa", kPlain)), (Texts{"aaaa", "aa", "a"}));
}

TEST(TokenizerTest, MergesPiecesByScore) {
  const Tokenizer tokenizer = load(sentence_piece().metadata());
  // By hand: ▁h (0) first, then el (-1) and lo (-2), then ▁hel (-3), then ▁hello (-4).
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "hello world", kPlain)),
            (Texts{"▁hello", "▁world"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "xé", kPlain)), (Texts{"▁", "<0x78>", "é"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "  a", kPlain)), (Texts{"▁▁", "▁", "a"}));
}

TEST(TokenizerTest, ASpaceGoesBeforeTheFirstWordAndAfterEverySpecialToken) {
  Builder builder = sentence_piece();
  const Tokenizer tokenizer = load(builder.metadata());
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "hello<s>hello", kSpecial)),
            (Texts{"▁hello", "<s>", "▁hello"}));

  gguf::Metadata metadata = builder.metadata();
  metadata.set("tokenizer.ggml.add_space_prefix", {false});
  const Tokenizer bare = load(metadata);
  EXPECT_EQ(texts_of(bare, encode(bare, "hel", kPlain)), (Texts{"h", "el"}));
  EXPECT_EQ(bare.decode(encode(bare, " hello", kPlain)), " hello");
}

TEST(TokenizerTest, ControlTextsAreTokensOnlyWhenAsked) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  const std::string text = "<|im_start|>hello<|im_end|>";

  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, text, kSpecial)),
            (Texts{"<|im_start|>", "hello", "<|im_end|>"}));

  for (const TokenId id : encode(tokenizer, text, kPlain)) EXPECT_FALSE(tokenizer.is_control(id));
}

TEST(TokenizerTest, UserDefinedTextsAreTokensAlways) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  const TokenId eight_spaces = tokenizer.find("        ");
  ASSERT_TRUE(tokenizer.is_user_defined(eight_spaces));
  EXPECT_EQ(encode(tokenizer, "        ", kPlain), Ids{eight_spaces});
  EXPECT_EQ(encode(tokenizer, "        ", kSpecial), Ids{eight_spaces});
}

TEST(TokenizerTest, AddsBosAndEosAsTheVocabularyAsks) {
  gguf::Metadata metadata = byte_bpe().metadata();
  metadata.set("tokenizer.ggml.bos_token_id", {std::uint32_t{268}});
  metadata.set("tokenizer.ggml.eos_token_id", {std::uint32_t{270}});
  EXPECT_EQ(encode(load(metadata), "h", {}), Ids{'h'});

  metadata.set("tokenizer.ggml.add_bos_token", {true});
  metadata.set("tokenizer.ggml.add_eos_token", {true});
  const Tokenizer tokenizer = load(metadata);
  EXPECT_EQ(encode(tokenizer, "h", {}), (Ids{268, 'h', 270}));
  EXPECT_EQ(encode(tokenizer, "", {}), (Ids{268, 270}));
  EXPECT_EQ(encode(tokenizer, "h", kPlain), Ids{'h'});
  EXPECT_EQ(tokenizer.decode(Ids{268, 'h', 270}), "h");

  const Tokenizer spm = load(sentence_piece().metadata());
  EXPECT_EQ(encode(spm, "", {}), Ids{1});
  EXPECT_TRUE(spm.adds_bos());
  EXPECT_FALSE(spm.adds_eos());
}

TEST(TokenizerTest, ABosThatTheTextSpellsIsKept) {
  const Tokenizer tokenizer = load(sentence_piece().metadata());
  EXPECT_EQ(encode(tokenizer, "<s>hello", {.parse_special = true}),
            (Ids{1, 1, tokenizer.find("▁hello")}));
}

TEST(TokenizerTest, LlamaRulesAddBosUnlessTheFileSaysNo) {
  Builder builder = byte_bpe();
  builder.pre = "llama-bpe";
  gguf::Metadata metadata = builder.metadata();
  EXPECT_FALSE(load(metadata).adds_bos());  // it has none
  metadata.set("tokenizer.ggml.bos_token_id", {std::uint32_t{268}});
  EXPECT_TRUE(load(metadata).adds_bos());
  metadata.set("tokenizer.ggml.add_bos_token", {false});
  EXPECT_FALSE(load(metadata).adds_bos());
}

TEST(TokenizerTest, SomeRulesTakeAWholeWordThatIsAToken) {
  Builder builder = byte_bpe();
  builder.add("xyzzy");  // no merges lead to it
  EXPECT_EQ(encode(load(builder.metadata()), "xyzzy", kPlain).size(), 5u);
  builder.pre = "llama-bpe";
  EXPECT_EQ(encode(load(builder.metadata()), "xyzzy", kPlain).size(), 1u);
}

TEST(TokenizerTest, AnUnknownPreTokenizerIsNamedAndCanBeReplaced) {
  Builder builder = byte_bpe();
  builder.pre = "brand-new";
  const auto refused = Tokenizer::from_metadata(builder.metadata());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnimplemented);
  EXPECT_NE(refused.error().message.find("brand-new"), std::string::npos);

  const auto replaced = Tokenizer::from_metadata(builder.metadata(), {.pre_tokenizer = "qwen2"});
  ASSERT_TRUE(replaced);
  EXPECT_EQ(replaced->pre_tokenizer(), "qwen2");
}

TEST(TokenizerTest, BadUtf8BecomesOneReplacementPerByteInByteLevelBpe) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  EXPECT_EQ(tokenizer.decode(encode(tokenizer, "a\xFF\xE2\x82z", kPlain)), "a\uFFFD\uFFFD\uFFFDz");
  EXPECT_EQ(tokenizer.decode(encode(tokenizer, "\xED\xA0\x80", kPlain)), "\uFFFD\uFFFD\uFFFD");
}

TEST(TokenizerTest, BadUtf8KeepsItsBytesInSentencePiece) {
  const Tokenizer tokenizer = load(sentence_piece().metadata());
  for (const char* const text : {"a\xFF\xE2\x82z", "\xED\xA0\x80", "\x80", "\xF0"}) {
    EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, kPlain)), text);
  }
}

TEST(TokenizerTest, RefusesTextBeyondItsLimit) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  EXPECT_TRUE(tokenizer.encode("12345678", {.text_bytes_max = 8}));
  const auto ids = tokenizer.encode("123456789", {.text_bytes_max = 8});
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, ErrorCode::kInvalidArgument);
}

// A quadratic merge would need a day for each of these.
TEST(TokenizerTest, OneWordOfAMegabyteIsEncoded) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  const Tokenizer bpe = load(byte_bpe().metadata());
  EXPECT_EQ(encode(bpe, std::string(kBytes, 'a'), kPlain).size(), kBytes / 4);
  EXPECT_EQ(encode(bpe, std::string(kBytes, 'z'), kPlain).size(), kBytes);
  EXPECT_EQ(encode(bpe, std::string(kBytes, ' '), kPlain).size(), kBytes / 8);
  const Tokenizer spm = load(sentence_piece().metadata());
  EXPECT_EQ(encode(spm, std::string(kBytes, 'a'), kPlain).size(), 1 + kBytes / 4);
  EXPECT_EQ(encode(spm, std::string(kBytes, ' '), kPlain).size(), 1 + kBytes / 2);
}

TEST(TokenizerTest, Phi3DropsTheSpaceAfterItsMarkers) {
  gguf::Metadata metadata = sentence_piece().metadata();
  metadata.set("general.name", {std::string("Phi-3 mini")});
  const Tokenizer tokenizer = load(metadata);
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "<|im_end|> \n hello", kSpecial)),
            (Texts{"<|im_end|>", "▁hello"}));
  EXPECT_EQ(texts_of(tokenizer, encode(tokenizer, "<s> hello", kSpecial)),
            (Texts{"<s>", "▁", "▁hello"}));
}

TEST(TokenizerTest, DecodingSkipsSpecialTokensUnlessAsked) {
  const Tokenizer tokenizer = load(sentence_piece().metadata());
  const Ids ids = {1, tokenizer.find("▁hello"), tokenizer.find("▁world"), 0, 2, 1 << 20, -5};
  EXPECT_EQ(tokenizer.decode(ids), "hello world");
  EXPECT_EQ(tokenizer.decode(ids, {.skip_special = false}), "<s>hello world<unk></s>");
  EXPECT_EQ(tokenizer.decode(ids, {.strip_leading_space = false}), " hello world");
}

// For the thread sanitizer: one tokenizer, several threads, no lock.
TEST(TokenizerTest, ServesSeveralThreadsAtOnce) {
  const Tokenizer tokenizer = load(byte_bpe().metadata());
  const std::string text = "hello world, hello 👩‍💻 <|im_start|> aaaaaaaa";
  const Ids expected = encode(tokenizer, text, kSpecial);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        EXPECT_EQ(encode(tokenizer, text, kSpecial), expected);
        EXPECT_EQ(tokenizer.decode(expected, {.skip_special = false}), text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenizerTest, OutlivesTheMetadataAndMoves) {
  Tokenizer first = load(byte_bpe().metadata());
  const Ids before = encode(first, "hello world", kPlain);
  Tokenizer second = std::move(first);
  EXPECT_EQ(encode(second, "hello world", kPlain), before);
  EXPECT_EQ(second.vocab_size(), 272u);
}

}  // namespace
}  // namespace conclave::tokenizer
