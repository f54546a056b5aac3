#include "conclave/catalog/reference.hpp"

#include <gtest/gtest.h>

namespace conclave::catalog {
namespace {

using base::ErrorCode;

TEST(ReferenceTest, ReadsTheThreeForms) {
  EXPECT_EQ(parse_reference("conclave-demo").value(), (Reference{"conclave-demo", "", 0}));
  EXPECT_EQ(parse_reference("qwen3_30b.a3b@canary").value(),
            (Reference{"qwen3_30b.a3b", "canary", 0}));
  EXPECT_EQ(parse_reference("m:4294967295").value(), (Reference{"m", "", 4294967295u}));
}

TEST(ReferenceTest, RefusesEverythingElse) {
  const std::string long_name(65, 'a');
  for (const std::string& text : {std::string(),
                                  std::string("@"),
                                  std::string("@production"),
                                  std::string("m@"),
                                  std::string("m:"),
                                  std::string("m:0"),
                                  std::string("m:-1"),
                                  std::string("m:1x"),
                                  std::string("m: 1"),
                                  std::string("m:4294967296"),
                                  std::string("m@a@b"),
                                  std::string("m@a:1"),
                                  std::string("m:1@a"),
                                  std::string("M"),
                                  std::string("-m"),
                                  std::string(".m"),
                                  std::string("m/n"),
                                  std::string("m n"),
                                  std::string("m\0n", 3),
                                  std::string("caf\xC3\xA9"),
                                  long_name,
                                  "m@" + long_name}) {
    const auto reference = parse_reference(text);
    ASSERT_FALSE(reference) << text;
    EXPECT_EQ(reference.error().code, ErrorCode::kInvalidArgument) << text;
  }
  EXPECT_TRUE(parse_reference(std::string(64, 'a')));
}

TEST(ReferenceTest, FormattedVersionsAreReadBack) {
  EXPECT_EQ(parse_reference(format_reference("m", 12)).value(), (Reference{"m", "", 12}));
}

TEST(DeriveNameTest, PrefersTheModelsOwnName) {
  EXPECT_EQ(derive_name("Qwen3 30B A3B", "/models/x.gguf").value(), "qwen3-30b-a3b");
  EXPECT_EQ(derive_name("Mixtral 8x7B -- Instruct (v0.1)!", "x.gguf").value(),
            "mixtral-8x7b-instruct-v0.1");
}

TEST(DeriveNameTest, FallsBackToTheFileWithoutItsPartNumber) {
  EXPECT_EQ(derive_name("", "/models/OLMoE-1B-7B.Q8_0.gguf").value(), "olmoe-1b-7b.q8_0");
  EXPECT_EQ(derive_name("\xE6\xA8\xA1", "/m/DeepSeek-V3-00002-of-00010.gguf").value(),
            "deepseek-v3");
  EXPECT_EQ(derive_name("", "_model").value(), "model");
}

TEST(DeriveNameTest, WhatItMakesIsAlwaysAName) {
  for (const std::string& text : {std::string(500, 'A'), std::string("a" + std::string(90, ' ')),
                                  std::string("..9.."), std::string(63, 'x') + "  y"}) {
    const auto name = derive_name(text, "");
    ASSERT_TRUE(name) << text;
    EXPECT_TRUE(is_name(*name)) << *name;
  }
}

TEST(DeriveNameTest, AsksForANameIfNothingIsLeft) {
  EXPECT_EQ(derive_name("---", "/models/.gguf").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::catalog
