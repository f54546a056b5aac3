// The typed key-value part of a GGUF file. Readers ask for what they need by key and C++ type and
// get a clear error that names the key; nothing here knows what a key means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::gguf {

struct Value;

/// One metadata array; the alternatives are the element types of the format, in its order of ids.
/// (uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64,
/// float64). bool is stored as one char each because std::vector<bool> has no data().
using Array =
    std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<float>, std::vector<char>, std::vector<std::string>,
                 std::vector<Value>, std::vector<std::uint64_t>, std::vector<std::int64_t>,
                 std::vector<double>>;

/// One metadata value. The index of the alternative is the type id in the file (0 = uint8,
/// 7 = bool, 8 = string, 9 = array, 12 = float64).
struct Value {
  std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
               float, bool, std::string, Array, std::uint64_t, std::int64_t, double>
      data;
};

/// "uint8" .. "float64", as the GGUF specification names its types; "type N" for an unknown id.
std::string value_type_name(std::size_t type_id);

/// Keys in file order, unique. A value class: copy it, build it for the writer, read it anywhere.
class Metadata {
 public:
  using Entry = std::pair<std::string, Value>;

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

  /// nullptr if there is no such key. O(log n).
  [[nodiscard]] const Value* find(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }

  /// Adds the key at the end, or replaces its value where it stands.
  void set(std::string key, Value value);

  /// The value of `key` as T: bool, std::string, float, double, or any integer type (a stored
  /// integer of any width is accepted if its value fits T; an integer is accepted for a
  /// floating T, not the reverse). kNotFound if absent; kCorruptData if of another type or out of
  /// range, with the key and the type found.
  template <class T>
  [[nodiscard]] base::Result<T> get(std::string_view key) const;

  /// As `get`, but `fallback` if the key is absent. A present key of a wrong type is an error
  /// still.
  template <class T>
  [[nodiscard]] base::Result<T> get_or(std::string_view key,
                                       std::type_identity_t<T> fallback) const {
    if (!contains(key)) return fallback;
    return get<T>(key);
  }

  /// The elements of the array `key`, converted as `get` converts; T is std::string, float, bool
  /// (as std::vector<char>: use get_array<char>) or an integer type.
  template <class T>
  [[nodiscard]] base::Result<std::vector<T>> get_array(std::string_view key) const;

  /// The strings of the array `key` in place; kNotFound, kCorruptData as `get`. Valid until the
  /// key is set again or the object dies.
  [[nodiscard]] base::Result<const std::vector<std::string>*> strings(std::string_view key) const;

 private:
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> by_key_;  // indices of entries_, sorted by key
};

}  // namespace conclave::gguf
