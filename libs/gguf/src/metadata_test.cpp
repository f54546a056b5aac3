#include "conclave/gguf/metadata.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;

TEST(MetadataTest, KeepsOrderAndReplacesInPlace) {
  Metadata m;
  m.set("b", {std::uint32_t{1}});
  m.set("a", {std::uint32_t{2}});
  m.set("c", {std::uint32_t{3}});
  m.set("a", {std::string("two")});

  ASSERT_EQ(m.entries().size(), 3u);
  EXPECT_EQ(m.entries()[0].first, "b");
  EXPECT_EQ(m.entries()[1].first, "a");
  EXPECT_EQ(m.get<std::string>("a").value(), "two");
  EXPECT_EQ(m.get<int>("c").value(), 3);
  EXPECT_FALSE(m.contains("d"));
  const Metadata copy = m;
  EXPECT_EQ(copy.get<std::string>("a").value(), "two");
}

TEST(MetadataTest, ConvertsIntegersOfAnyWidthThatFit) {
  const Metadata m = test::every_value_type();
  EXPECT_EQ(m.get<std::uint64_t>("u8").value(), 250u);
  EXPECT_EQ(m.get<std::int64_t>("u32").value(), 4000000000);
  EXPECT_EQ(m.get<std::uint8_t>("u8").value(), 250);
  EXPECT_EQ(m.get<std::int16_t>("i8").value(), -3);
  EXPECT_EQ(m.get<std::uint64_t>("u64").value(), std::uint64_t{1} << 63);

  const auto narrow = m.get<std::int8_t>("u8");
  ASSERT_FALSE(narrow);
  EXPECT_EQ(narrow.error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(narrow.error().message,
            "metadata key 'u8' has value 250, which is out of range of int8");
  EXPECT_EQ(m.get<std::uint32_t>("i8").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.get<std::int64_t>("u64").error().code, ErrorCode::kCorruptData);
}

TEST(MetadataTest, ConvertsToFloatingButNotFromIt) {
  Metadata m = test::every_value_type();
  EXPECT_EQ(m.get<float>("i32").value(), -70000.0f);
  EXPECT_EQ(m.get<double>("f32").value(), 1.5);
  EXPECT_EQ(m.get<float>("f64").value(), 0.1f);
  EXPECT_EQ(m.get<std::uint32_t>("f32").error().code, ErrorCode::kCorruptData);
  m.set("huge", {1e300});
  EXPECT_EQ(m.get<float>("huge").error().code, ErrorCode::kCorruptData);
  m.set("inf", {std::numeric_limits<double>::infinity()});
  EXPECT_EQ(m.get<float>("inf").value(), std::numeric_limits<float>::infinity());
}

TEST(MetadataTest, SaysWhichKeyIsMissingOrOfWhichType) {
  const Metadata m = test::every_value_type();

  const auto missing = m.get<std::uint32_t>("llama.block_count");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message, "metadata key 'llama.block_count' is missing");

  const auto wrong = m.get<std::uint32_t>("string");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(wrong.error().message, "metadata key 'string' is of type string, expected uint32");
  EXPECT_EQ(m.get<std::string>("array.u8").error().message,
            "metadata key 'array.u8' is of type array of uint8, expected string");
  EXPECT_EQ(m.get<bool>("u8").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.get<int>("bool").error().code, ErrorCode::kCorruptData);
}

TEST(MetadataTest, FallbackIsForAbsentKeysOnly) {
  const Metadata m = test::every_value_type();
  EXPECT_EQ(m.get_or<std::uint32_t>("absent", 7).value(), 7u);
  EXPECT_EQ(m.get_or<std::uint32_t>("u16", 7).value(), 65000u);
  EXPECT_EQ(m.get_or<std::uint32_t>("string", 7).error().code, ErrorCode::kCorruptData);
}

TEST(MetadataTest, ArraysConvertElementByElement) {
  Metadata m = test::every_value_type();
  EXPECT_EQ(m.get_array<std::uint32_t>("array.u16").value(),
            (std::vector<std::uint32_t>{1, 65535}));
  EXPECT_EQ(m.get_array<float>("array.i32").value(), (std::vector<float>{-1, 70000}));
  EXPECT_EQ(m.get_array<char>("array.bool").value(), (std::vector<char>{1, 0, 1}));
  EXPECT_EQ(m.get_array<std::string>("array.string").value(),
            (std::vector<std::string>{"", "a", "the"}));
  EXPECT_TRUE(m.get_array<std::int64_t>("array.empty").value().empty());

  EXPECT_EQ(m.get_array<std::uint8_t>("array.i8").error().message,
            "metadata key 'array.i8' has value -1, which is out of range of uint8");
  EXPECT_EQ(m.get_array<std::uint8_t>("u8").error().message,
            "metadata key 'u8' is of type uint8, expected array of uint8");
  EXPECT_EQ(m.get_array<std::uint8_t>("array.array").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.get_array<std::uint8_t>("array.bool").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.get_array<std::string>("array.u8").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.get_array<float>("absent").error().code, ErrorCode::kNotFound);
}

TEST(MetadataTest, StringsAreBorrowedInPlace) {
  const Metadata m = test::every_value_type();
  const auto strings = m.strings("array.string");
  ASSERT_TRUE(strings);
  EXPECT_EQ((*strings)->at(2), "the");
  EXPECT_EQ(m.strings("string").error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(m.strings("absent").error().code, ErrorCode::kNotFound);
}

TEST(MetadataTest, NamesTypesAsTheSpecificationDoes) {
  EXPECT_EQ(value_type_name(0), "uint8");
  EXPECT_EQ(value_type_name(9), "array");
  EXPECT_EQ(value_type_name(12), "float64");
  EXPECT_EQ(value_type_name(13), "type 13");
}

}  // namespace
}  // namespace conclave::gguf
