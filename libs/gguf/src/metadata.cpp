#include "conclave/gguf/metadata.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "format.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using base::fail;

constexpr std::array<std::string_view, 13> kTypeNames = {
    "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
    "bool",  "string", "array",  "uint64", "int64",  "float64"};

// Integers that convert among each other: neither bool nor char, which stands for bool in arrays.
template <class T>
inline constexpr bool kIsInteger =
    std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;

template <class To, class From>
inline constexpr bool kConverts = std::is_same_v<To, From> ||
                                  (kIsInteger<To> && kIsInteger<From>) ||
                                  (std::is_floating_point_v<To> &&
                                   (std::is_floating_point_v<From> || kIsInteger<From>));

// The GGUF name of what a caller asks for.
template <class T>
std::string_view wanted_name() {
  if constexpr (std::is_same_v<T, std::string>) {
    return "string";
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, char>) {
    return "bool";
  } else if constexpr (std::is_floating_point_v<T>) {
    return sizeof(T) == 4 ? "float32" : "float64";
  } else {
    constexpr std::size_t kWidth = std::countr_zero(sizeof(T));  // 0 to 3
    constexpr std::array<std::size_t, 4> kUnsignedIds = {0, 2, 4, 10};
    return kTypeNames[kUnsignedIds[kWidth] + (std::is_signed_v<T> ? 1 : 0)];
  }
}

// Nothing if `value` is outside T.
template <class To, class From>
std::optional<To> convert(const From& value) {
  static_assert(kConverts<To, From>);
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (kIsInteger<To>) {
    if (!std::in_range<To>(value)) return std::nullopt;
    return static_cast<To>(value);
  } else if constexpr (std::is_same_v<From, double>) {  // to float
    if (std::isfinite(value) && std::fabs(value) > double{std::numeric_limits<float>::max()}) {
      return std::nullopt;
    }
    return static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

std::string describe(const Value& value) {
  const std::string name = value_type_name(value.data.index());
  const auto* array = std::get_if<Array>(&value.data);
  return array == nullptr ? name : "array of " + value_type_name(array->index());
}

tl::unexpected<base::Error> missing(std::string_view key) {
  return fail(ErrorCode::kNotFound, "metadata key " + shown(key) + " is missing");
}

tl::unexpected<base::Error> wrong_type(std::string_view key, const Value& value,
                                       std::string_view wanted) {
  return fail(ErrorCode::kCorruptData, "metadata key " + shown(key) + " is of type " +
                                           describe(value) + ", expected " + std::string(wanted));
}

template <class T, class From>
tl::unexpected<base::Error> out_of_range(std::string_view key, From value) {
  return fail(ErrorCode::kCorruptData, "metadata key " + shown(key) + " has value " +
                                           std::to_string(value) + ", which is out of range of " +
                                           std::string(wanted_name<T>()));
}

template <class T, class From>
base::Result<std::vector<T>> convert_all(std::string_view key, const std::vector<From>& elements) {
  if constexpr (std::is_same_v<T, From>) {
    return elements;
  } else {
    std::vector<T> out;
    out.reserve(elements.size());
    for (const From& element : elements) {
      const std::optional<T> converted = convert<T>(element);
      if (!converted) return out_of_range<T>(key, element);
      out.push_back(*converted);
    }
    return out;
  }
}

}  // namespace

std::string value_type_name(std::size_t type_id) {
  if (type_id < kTypeNames.size()) return std::string(kTypeNames[type_id]);
  return "type " + std::to_string(type_id);
}

const Value* Metadata::find(std::string_view key) const {
  const auto at = std::lower_bound(
      by_key_.begin(), by_key_.end(), key,
      [&](std::uint32_t index, std::string_view k) { return entries_[index].first < k; });
  if (at == by_key_.end() || entries_[*at].first != key) return nullptr;
  return &entries_[*at].second;
}

void Metadata::set(std::string key, Value value) {
  const auto at = std::lower_bound(
      by_key_.begin(), by_key_.end(), key,
      [&](std::uint32_t index, const std::string& k) { return entries_[index].first < k; });
  if (at != by_key_.end() && entries_[*at].first == key) {
    entries_[*at].second = std::move(value);
    return;
  }
  by_key_.insert(at, static_cast<std::uint32_t>(entries_.size()));
  entries_.emplace_back(std::move(key), std::move(value));
}

template <class T>
base::Result<T> Metadata::get(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing(key);
  return std::visit(
      [&](const auto& stored) -> base::Result<T> {
        using Stored = std::decay_t<decltype(stored)>;
        if constexpr (std::is_same_v<T, Stored>) {
          return stored;
        } else if constexpr (kConverts<T, Stored>) {
          const std::optional<T> converted = convert<T>(stored);
          if (!converted) return out_of_range<T>(key, stored);
          return *converted;
        } else {
          return wrong_type(key, *value, wanted_name<T>());
        }
      },
      value->data);
}

template <class T>
base::Result<std::vector<T>> Metadata::get_array(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing(key);
  const std::string wanted = "array of " + std::string(wanted_name<T>());
  const auto* array = std::get_if<Array>(&value->data);
  if (array == nullptr) return wrong_type(key, *value, wanted);
  return std::visit(
      [&](const auto& elements) -> base::Result<std::vector<T>> {
        using Element = typename std::decay_t<decltype(elements)>::value_type;
        if constexpr (kConverts<T, Element>) {
          return convert_all<T>(key, elements);
        } else {
          return wrong_type(key, *value, wanted);
        }
      },
      *array);
}

base::Result<const std::vector<std::string>*> Metadata::strings(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing(key);
  if (const auto* array = std::get_if<Array>(&value->data)) {
    if (const auto* strings = std::get_if<std::vector<std::string>>(array)) return strings;
  }
  return wrong_type(key, *value, "array of string");
}

template base::Result<bool> Metadata::get(std::string_view) const;
template base::Result<std::string> Metadata::get(std::string_view) const;
template base::Result<float> Metadata::get(std::string_view) const;
template base::Result<double> Metadata::get(std::string_view) const;
template base::Result<std::uint8_t> Metadata::get(std::string_view) const;
template base::Result<std::int8_t> Metadata::get(std::string_view) const;
template base::Result<std::uint16_t> Metadata::get(std::string_view) const;
template base::Result<std::int16_t> Metadata::get(std::string_view) const;
template base::Result<std::uint32_t> Metadata::get(std::string_view) const;
template base::Result<std::int32_t> Metadata::get(std::string_view) const;
template base::Result<std::uint64_t> Metadata::get(std::string_view) const;
template base::Result<std::int64_t> Metadata::get(std::string_view) const;

template base::Result<std::vector<char>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::string>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<float>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<double>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::uint8_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::int8_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::uint16_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::int16_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::uint32_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::int32_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::uint64_t>> Metadata::get_array(std::string_view) const;
template base::Result<std::vector<std::int64_t>> Metadata::get_array(std::string_view) const;

}  // namespace conclave::gguf
