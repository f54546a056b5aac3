#include "metadata_parser.hpp"

#include <algorithm>

#include "conclave/base/utf8.hpp"
#include "format.hpp"
#include "limits.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using base::fail;

// key length, one byte of key, type, one byte of value
constexpr std::uint64_t kEntryBytesMin = 8 + 1 + 4 + 1;
constexpr std::uint64_t kStringBytesMin = 8;     // its length
constexpr std::uint64_t kArrayBytesMin = 4 + 8;  // its element type and count

tl::unexpected<base::Error> corrupt(std::string message) {
  return fail(ErrorCode::kCorruptData, std::move(message));
}

tl::unexpected<base::Error> unknown_type(std::uint32_t type, std::size_t offset) {
  return corrupt("unknown value type " + std::to_string(type) + " at offset " +
                 std::to_string(offset));
}

// Any other byte than 0 and 1 must not reach a C++ bool.
base::Status check_bools(std::span<const std::byte> bytes, std::size_t offset) {
  const auto bad =
      std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
  if (bad == bytes.end()) return {};
  const auto at = offset + static_cast<std::size_t>(bad - bytes.begin());
  return corrupt("bool at offset " + std::to_string(at) + " is " +
                 std::to_string(std::to_integer<int>(*bad)) + ", expected 0 or 1");
}

template <class T>
base::Result<Value> read_number(ByteReader& reader) {
  CONCLAVE_TRY(const T number, reader.read<T>("value"));
  return Value{number};
}

base::Result<Value> read_bool(ByteReader& reader) {
  const std::size_t offset = reader.offset();
  CONCLAVE_TRY(const auto byte, reader.take(1, "value"));
  CONCLAVE_TRY_VOID(check_bools(byte, offset));
  return Value{byte[0] == std::byte{1}};
}

base::Result<Value> read_text(ByteReader& reader) {
  CONCLAVE_TRY(const auto text, reader.read_string("string", limits::kHeaderBytesMax));
  return Value{std::string(text)};
}

template <class T>
base::Result<Array> read_numbers(ByteReader& reader, std::uint64_t count) {
  CONCLAVE_TRY_VOID(reader.check_count(count, sizeof(T), "array elements"));
  CONCLAVE_TRY(const auto bytes, reader.take(count * sizeof(T), "array"));
  std::vector<T> numbers(static_cast<std::size_t>(count));
  if (!bytes.empty()) std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return Array(std::move(numbers));
}

base::Result<Array> read_bools(ByteReader& reader, std::uint64_t count) {
  const std::size_t offset = reader.offset();
  CONCLAVE_TRY(auto array, read_numbers<char>(reader, count));
  const auto& bools = std::get<std::vector<char>>(array);
  CONCLAVE_TRY_VOID(check_bools(std::as_bytes(std::span(bools)), offset));
  return array;
}

base::Result<Array> read_strings(ByteReader& reader, std::uint64_t count) {
  CONCLAVE_TRY_VOID(reader.check_count(count, kStringBytesMin, "array elements"));
  std::vector<std::string> strings;
  strings.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    CONCLAVE_TRY(const auto text, reader.read_string("array element", limits::kHeaderBytesMax));
    strings.emplace_back(text);
  }
  return Array(std::move(strings));
}

base::Result<Array> read_array(ByteReader& reader, int depth);

base::Result<Array> read_arrays(ByteReader& reader, std::uint64_t count, int depth) {
  CONCLAVE_TRY_VOID(reader.check_count(count, kArrayBytesMin, "nested arrays"));
  std::vector<Value> arrays;
  arrays.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    CONCLAVE_TRY(auto array, read_array(reader, depth + 1));
    arrays.push_back(Value{std::move(array)});
  }
  return Array(std::move(arrays));
}

base::Result<Array> read_array(ByteReader& reader, int depth) {
  const std::size_t offset = reader.offset();
  if (depth > limits::kArrayDepthMax) {
    return corrupt("arrays at offset " + std::to_string(offset) + " nest deeper than " +
                   std::to_string(limits::kArrayDepthMax));
  }
  CONCLAVE_TRY(const auto type, reader.read<std::uint32_t>("array element type"));
  CONCLAVE_TRY(const auto count, reader.read<std::uint64_t>("array length"));
  switch (type) {
    case 0:
      return read_numbers<std::uint8_t>(reader, count);
    case 1:
      return read_numbers<std::int8_t>(reader, count);
    case 2:
      return read_numbers<std::uint16_t>(reader, count);
    case 3:
      return read_numbers<std::int16_t>(reader, count);
    case 4:
      return read_numbers<std::uint32_t>(reader, count);
    case 5:
      return read_numbers<std::int32_t>(reader, count);
    case 6:
      return read_numbers<float>(reader, count);
    case 7:
      return read_bools(reader, count);
    case 8:
      return read_strings(reader, count);
    case 9:
      return read_arrays(reader, count, depth);
    case 10:
      return read_numbers<std::uint64_t>(reader, count);
    case 11:
      return read_numbers<std::int64_t>(reader, count);
    case 12:
      return read_numbers<double>(reader, count);
    default:
      return unknown_type(type, offset);
  }
}

base::Result<Value> read_value(ByteReader& reader) {
  const std::size_t offset = reader.offset();
  CONCLAVE_TRY(const auto type, reader.read<std::uint32_t>("value type"));
  switch (type) {
    case 0:
      return read_number<std::uint8_t>(reader);
    case 1:
      return read_number<std::int8_t>(reader);
    case 2:
      return read_number<std::uint16_t>(reader);
    case 3:
      return read_number<std::int16_t>(reader);
    case 4:
      return read_number<std::uint32_t>(reader);
    case 5:
      return read_number<std::int32_t>(reader);
    case 6:
      return read_number<float>(reader);
    case 7:
      return read_bool(reader);
    case 8:
      return read_text(reader);
    case 9: {
      CONCLAVE_TRY(auto array, read_array(reader, 1));
      return Value{std::move(array)};
    }
    case 10:
      return read_number<std::uint64_t>(reader);
    case 11:
      return read_number<std::int64_t>(reader);
    case 12:
      return read_number<double>(reader);
    default:
      return unknown_type(type, offset);
  }
}

base::Result<std::string_view> read_key(ByteReader& reader) {
  const std::size_t offset = reader.offset();
  CONCLAVE_TRY(const auto key, reader.read_string("key", limits::kKeyBytesMax));
  if (key.empty()) return corrupt("key at offset " + std::to_string(offset) + " is empty");
  if (!base::utf8::valid(key)) {
    return corrupt("key " + shown(key) + " at offset " + std::to_string(offset) +
                   " is not valid UTF-8");
  }
  return key;
}

}  // namespace

base::Result<Metadata> parse_metadata(ByteReader& reader, std::uint64_t count) {
  if (count > limits::kMetadataKeysMax) {
    return corrupt(std::to_string(count) + " metadata keys are more than the limit of " +
                   std::to_string(limits::kMetadataKeysMax));
  }
  CONCLAVE_TRY_VOID(reader.check_count(count, kEntryBytesMin, "metadata keys"));
  Metadata metadata;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t offset = reader.offset();
    auto key = read_key(reader);
    if (!key) {
      return fail(std::move(key).error().within("metadata key " + std::to_string(i)));
    }
    if (metadata.contains(*key)) {
      return corrupt("metadata key " + shown(*key) + " at offset " + std::to_string(offset) +
                     " is a duplicate");
    }
    auto value = read_value(reader);
    if (!value) return fail(std::move(value).error().within("metadata key " + shown(*key)));
    metadata.set(std::string(*key), std::move(*value));
  }
  return metadata;
}

}  // namespace conclave::gguf
