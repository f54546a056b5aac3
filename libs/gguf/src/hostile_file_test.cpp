// Files that lie. Each case must end in an error with the right code that names the culprit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "byte_reader.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/gguf/file.hpp"
#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;
using test::RawFile;
using testing::HasSubstr;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 62;

void expect_refusal(const Bytes& bytes, ErrorCode code, const std::vector<std::string>& words) {
  const auto file = File::parse(bytes);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, code) << file.error().to_string();
  for (const std::string& word : words) EXPECT_THAT(file.error().message, HasSubstr(word));
}

// A file with one key `k` of `type`, whose value `put` appends.
Bytes with_value(std::uint32_t type, const std::function<void(RawFile&)>& put) {
  RawFile raw(0, 1);
  raw.string("k").number(type);
  put(raw);
  return raw.bytes();
}

TEST(HostileFileTest, OtherFormatsVersionsAndByteOrders) {
  const Bytes valid = test::make_file({});
  const auto patched = [&](std::size_t at, std::string_view text) {
    Bytes bytes = valid;
    std::memcpy(bytes.data() + at, text.data(), text.size());
    return bytes;
  };
  using namespace std::string_view_literals;
  expect_refusal({}, ErrorCode::kCorruptData, {"truncated", "magic"});
  expect_refusal(patched(0, "GGML"), ErrorCode::kCorruptData, {"not a GGUF file"});
  expect_refusal(patched(0, "FUGG"), ErrorCode::kUnimplemented, {"big-endian"});
  expect_refusal(patched(4, "\0\0\0\3"sv), ErrorCode::kUnimplemented, {"big-endian"});
  expect_refusal(patched(4, "\1\0\0\0"sv), ErrorCode::kUnimplemented, {"version 1"});
  expect_refusal(patched(4, "\4\0\0\0"sv), ErrorCode::kUnimplemented, {"version 4"});
  expect_refusal(patched(4, "\0\0\0\0"sv), ErrorCode::kCorruptData, {"version 0"});
}

TEST(HostileFileTest, CountsThatCannotFit) {
  expect_refusal(RawFile(0, kHuge).bytes(), ErrorCode::kCorruptData, {"metadata keys", "limit"});
  expect_refusal(RawFile(0, 3).bytes(), ErrorCode::kCorruptData, {"3 metadata keys", "cannot fit"});
  expect_refusal(RawFile(kHuge, 0).bytes(), ErrorCode::kCorruptData, {"tensors", "cannot fit"});
  for (const std::uint32_t element : {0u, 5u, 7u, 8u, 9u, 12u}) {
    const auto put = [&](RawFile& raw) { raw.number(element).number(kHuge).data(64); };
    expect_refusal(with_value(9, put), ErrorCode::kCorruptData, {"'k'", "cannot fit", "offset"});
  }
}

TEST(HostileFileTest, Keys) {
  const auto with_key = [](std::string_view key) {
    return RawFile(0, 1).string(key).number(std::uint32_t{0}).data(32).bytes();
  };
  expect_refusal(with_key(""), ErrorCode::kCorruptData, {"metadata key 0", "empty", "offset 24"});
  expect_refusal(with_key("a\xFFz"), ErrorCode::kCorruptData, {"not valid UTF-8", "offset 24"});
  expect_refusal(with_key(std::string(65536, 'k')), ErrorCode::kCorruptData, {"65536", "65535"});
  const Bytes long_length = RawFile(0, 1).number(kHuge).data(64).bytes();
  expect_refusal(long_length, ErrorCode::kCorruptData, {"key at offset 24", "limit"});
  RawFile twice(0, 2);
  for (int i = 0; i < 2; ++i) twice.string("same").number(std::uint32_t{7}).number(char{1});
  expect_refusal(twice.bytes(), ErrorCode::kCorruptData, {"'same'", "duplicate", "offset 41"});
}

TEST(HostileFileTest, Values) {
  const auto nothing = [](RawFile&) {};
  expect_refusal(with_value(13, [](RawFile& raw) { raw.data(32); }), ErrorCode::kCorruptData,
                 {"'k'", "unknown value type 13", "offset 33"});
  expect_refusal(with_value(7, [](RawFile& raw) { raw.number(char{2}); }), ErrorCode::kCorruptData,
                 {"'k'", "bool at offset 37 is 2"});
  expect_refusal(with_value(10, [](RawFile& raw) { raw.number(1u); }), ErrorCode::kCorruptData,
                 {"'k'", "truncated", "needs 8 bytes"});
  expect_refusal(with_value(0, nothing), ErrorCode::kCorruptData, {"cannot fit"});
  expect_refusal(with_value(8, [](RawFile& raw) { raw.number(std::uint64_t{99}); }),
                 ErrorCode::kCorruptData, {"'k'", "string", "99 bytes"});
}

TEST(HostileFileTest, Arrays) {
  const auto array = [](std::uint32_t element, std::uint64_t count) {
    return [element, count](RawFile& raw) { raw.number(element).number(count).data(64); };
  };
  expect_refusal(with_value(9, array(13, 1)), ErrorCode::kCorruptData,
                 {"'k'", "unknown value type 13", "offset 37"});
  const auto bools = [](RawFile& raw) {
    raw.number(7u).number(std::uint64_t{3}).text(std::string_view("\1\0\5", 3));
  };
  expect_refusal(with_value(9, bools), ErrorCode::kCorruptData, {"'k'", "bool at offset 51 is 5"});
  const auto nested = [](RawFile& raw) {
    for (int depth = 0; depth < 6; ++depth) raw.number(9u).number(std::uint64_t{1});
    raw.data(64);
  };
  expect_refusal(with_value(9, nested), ErrorCode::kCorruptData, {"'k'", "deeper than 4"});
}

TEST(HostileFileTest, AlignmentsThatMakeNoSense) {
  const auto with_alignment = [](std::uint32_t value) {
    RawFile raw(0, 1);
    raw.string("general.alignment").number(4u).number(value);
    return raw.bytes();
  };
  for (const std::uint32_t value : {0u, 1u, 4u, 48u, 1u << 17, 1u << 31}) {
    expect_refusal(with_alignment(value), ErrorCode::kCorruptData,
                   {"general.alignment is " + std::to_string(value)});
  }
  RawFile text(0, 1);
  text.string("general.alignment").number(8u).string("32");
  expect_refusal(text.bytes(), ErrorCode::kCorruptData,
                 {"'general.alignment' is of type string, expected uint32"});
}

TEST(HostileFileTest, TensorFields) {
  const auto with_tensor = [](std::string_view name, const std::vector<std::uint64_t>& shape,
                              std::uint32_t type, std::uint64_t offset) {
    return RawFile(1, 0).tensor(name, shape, type, offset).data(64).bytes();
  };
  const auto corrupt = [](const Bytes& bytes, const std::vector<std::string>& words) {
    expect_refusal(bytes, ErrorCode::kCorruptData, words);
  };
  ASSERT_TRUE(File::parse(with_tensor("t", {16}, 0, 0)));
  corrupt(with_tensor("", {1}, 0, 0), {"tensor 0", "offset 24", "empty"});
  corrupt(with_tensor("\xED\xA0\x80", {1}, 0, 0), {"tensor 0", "UTF-8"});
  corrupt(with_tensor(std::string(1025, 't'), {1}, 0, 0), {"tensor 0", "1025", "1024"});
  corrupt(with_tensor("t", {}, 0, 0), {"'t'", "0 dimensions"});
  corrupt(with_tensor("t", {1, 1, 1, 1, 1}, 0, 0), {"'t'", "5 dimensions"});
  corrupt(with_tensor("t", {4, 0}, 0, 0), {"'t'", "dimension 1 is 0"});
  corrupt(with_tensor("t", {kHuge, 4}, 0, 0), {"'t'", "dimension 1 of 4"});
  corrupt(with_tensor("t", {UINT64_MAX}, 0, 0), {"'t'", "dimension 0"});
  corrupt(with_tensor("t", {kHuge}, 0, 0), {"'t'", "larger than any memory"});
  corrupt(with_tensor("t", {33}, 8, 0), {"'t'", "rows of 33", "Q8_0 blocks of 32"});
  corrupt(with_tensor("t", {1}, 0, 8), {"'t'", "8 is no multiple of the alignment 32"});
  corrupt(with_tensor("t", {1}, 0, 64), {"'t'", "beyond the file", "incomplete download"});
  corrupt(with_tensor("t", {17}, 0, 0), {"'t'", "68 bytes", "beyond the file"});
  corrupt(with_tensor("t", {1}, 0, UINT64_MAX - 31), {"'t'", "beyond the file"});
  expect_refusal(with_tensor("t", {256}, 10, 0), ErrorCode::kUnimplemented, {"'t'", "Q2_K"});
  expect_refusal(with_tensor("t", {1}, 4096, 0), ErrorCode::kUnimplemented, {"'t'", "type 4096"});
}

TEST(HostileFileTest, TensorsThatCollide) {
  RawFile overlap(2, 0);
  overlap.tensor("one", {16}, 0, 0).tensor("two", {1}, 0, 32).data(64);
  expect_refusal(overlap.bytes(), ErrorCode::kCorruptData, {"'one'", "'two'", "overlap"});
  RawFile same(2, 0);
  same.tensor("one", {1}, 0, 0).tensor("two", {1}, 0, 0).data(64);
  expect_refusal(same.bytes(), ErrorCode::kCorruptData, {"'one'", "'two'", "overlap"});
  RawFile twins(2, 0);
  twins.tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(64);
  expect_refusal(twins.bytes(), ErrorCode::kCorruptData, {"'t'", "duplicate"});
}

TEST(HostileFileTest, TruncationAtEveryByte) {
  std::vector<Bytes> data;
  auto tensors = test::every_block_type(data);
  const Bytes whole = test::make_file(test::every_value_type(), tensors);
  const auto file = File::parse(whole);
  ASSERT_TRUE(file);
  const ByteRange last = file->tensors().back().range;

  for (std::size_t size = 0; size < last.offset + last.size; ++size) {
    const auto cut = File::parse(std::span(whole).first(size));
    ASSERT_FALSE(cut) << size;
    ASSERT_EQ(cut.error().code, ErrorCode::kCorruptData) << size;
  }
  EXPECT_TRUE(File::parse(std::span(whole).first(last.offset + last.size)));
}

// Whatever a byte becomes: an answer, and a message that is fit to print.
TEST(HostileFileTest, EveryByteChangedOnItsOwn) {
  std::vector<Bytes> data;
  const auto tensors = test::every_block_type(data);
  const Bytes whole = test::make_file(test::every_value_type(), tensors);
  const std::uint64_t header = File::parse(whole)->tensors()[0].range.offset;
  for (std::size_t at = 0; at < header; ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      Bytes bytes = whole;
      bytes[at] ^= static_cast<std::byte>(flip);
      const auto file = File::parse(bytes);
      if (!file) {
        ASSERT_FALSE(file.error().message.empty());
        ASSERT_TRUE(base::utf8::valid(file.error().message)) << at;
      }
    }
  }
}

TEST(HostileFileTest, LongAndControlCharacterNamesAreTamedInMessages) {
  RawFile raw(0, 1);
  raw.string("\x1B[31m" + std::string(5000, 'x')).number(99u).data(32);
  const auto file = File::parse(raw.bytes());
  ASSERT_FALSE(file);
  EXPECT_LT(file.error().message.size(), 250u);
  EXPECT_EQ(file.error().message.find('\x1B'), std::string::npos);
}

TEST(ByteReaderTest, TellsTooLargeFromTruncated) {
  const Bytes bytes(16);
  ByteReader truncated(bytes, 1000);
  EXPECT_THAT(truncated.take(17, "blob").error().message,
              "truncated: blob at offset 0 needs 17 bytes of the 16 bytes left");
  ByteReader limited(bytes, 8);
  EXPECT_TRUE(limited.read<std::uint64_t>("number"));
  EXPECT_EQ(limited.take(1, "blob").error().message,
            "too large: blob at offset 8 needs 1 bytes of the 0 bytes left within the limit of 8");
}

}  // namespace
}  // namespace conclave::gguf
