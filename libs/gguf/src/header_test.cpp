#include "conclave/gguf/header.hpp"

#include <gtest/gtest.h>

#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;

Bytes with_every_value(std::vector<Bytes>& data) {
  return test::make_file(test::every_value_type(), test::every_block_type(data));
}

TEST(HeaderTest, EveryPrefixIsTooShortOrGivesTheSame) {
  std::vector<Bytes> data;
  const Bytes file = with_every_value(data);
  const auto whole = read_header(file, file.size()).value();
  ASSERT_TRUE(whole.has_value());
  EXPECT_GT(whole->bytes, 100u);
  EXPECT_LT(whole->bytes, file.size());

  for (std::size_t size = 0; size <= file.size(); ++size) {
    const auto header = read_header(std::span(file).first(size), file.size());
    ASSERT_TRUE(header.has_value()) << size << ": " << header.error().to_string();
    EXPECT_EQ(header->has_value(), size >= whole->bytes) << size;
    if (*header) {
      EXPECT_EQ((*header)->bytes, whole->bytes);
    }
  }
}

TEST(HeaderTest, AFileThatEndsInItsHeaderIsCorrupt) {
  std::vector<Bytes> data;
  const Bytes file = with_every_value(data);

  const auto cut = read_header(std::span(file).first(200), 200);

  EXPECT_EQ(cut.error().code, ErrorCode::kCorruptData);
}

TEST(HeaderTest, WhatIsNoModelIsRefusedByItsFirstBytes) {
  const Bytes text = test::RawFile(0, 0).bytes();
  EXPECT_TRUE(read_header(text, 1000).value().has_value());

  Bytes page(64, std::byte{'<'});
  EXPECT_EQ(read_header(page, 1 << 20).error().code, ErrorCode::kCorruptData);
}

TEST(HeaderTest, SaysWhichPartItIs) {
  const Bytes file = test::make_file(test::split_metadata(1, 3, 0));

  const auto header = read_header(file, file.size()).value();

  EXPECT_EQ(header->part, 1u);
  EXPECT_EQ(header->parts, 3u);
  EXPECT_EQ(part_suffix(header->part, header->parts), "-00002-of-00003.gguf");
}

}  // namespace
}  // namespace conclave::gguf
