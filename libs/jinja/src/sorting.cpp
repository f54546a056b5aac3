#include "sorting.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "builtins.hpp"
#include "operators.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

enum class KeyKind : std::uint8_t { kNumber, kString, kNull, kUndefined, kOther };

struct SortKey {
  KeyKind kind = KeyKind::kOther;
  double number = 0.0;
  std::string text;
};

SortKey key_of(const Value& value, bool case_sensitive) {
  SortKey key;
  if (value.is_number() || value.is_bool()) {
    key.kind = KeyKind::kNumber;
    key.number = to_double(value);
  } else if (value.is_string()) {
    key.kind = KeyKind::kString;
    key.text = case_sensitive ? value.as_string() : to_lower(value.as_string());
  } else if (value.is_null()) {
    key.kind = KeyKind::kNull;
  } else if (value.is_undefined()) {
    key.kind = KeyKind::kUndefined;
  }
  return key;
}

/// Not-a-number sorts before all numbers, so that the order is one.
bool number_less(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return a < b;
}

bool less(const SortKey& a, const SortKey& b) {
  if (a.kind == KeyKind::kNumber) return number_less(a.number, b.number);
  return a.text < b.text;
}

}  // namespace

base::Result<Array> sorted(const Array& items, const SortOrder& order, Budget& budget) {
  std::vector<SortKey> keys;
  keys.reserve(items.size());
  std::size_t text_bytes = 0;
  for (const Value& item : items) {
    if (order.attribute) CONCLAVE_TRY_VOID(budget.scan(order.attribute->size()));
    const Value value = order.attribute ? get_path(item, *order.attribute) : item;
    keys.push_back(key_of(value, order.case_sensitive));
    text_bytes += keys.back().text.size();
    CONCLAVE_TRY_VOID(budget.allocate(sizeof(SortKey) + keys.back().text.size()));
    const bool comparable =
        keys.back().kind == keys.front().kind && keys.back().kind != KeyKind::kOther;
    if (items.size() > 1 && !comparable) {
      return broken(concat({"cannot sort ", type_name(value), " with other values"}));
    }
  }
  const auto rounds = static_cast<std::size_t>(std::ceil(std::log2(items.size() + 1)));
  CONCLAVE_TRY_VOID(budget.step((items.size() + text_bytes / 16) * rounds));

  std::vector<std::size_t> places(items.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return order.reverse ? less(keys[b], keys[a]) : less(keys[a], keys[b]);
  });
  Array result;
  result.reserve(items.size());
  for (const std::size_t place : places) result.push_back(items[place]);
  return result;
}

}  // namespace conclave::jinja
