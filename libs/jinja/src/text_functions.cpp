#include "text_functions.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "operators.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

using base::Result;

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

using Pieces = std::vector<std::string_view>;

Pieces split_at_space(std::string_view text, std::size_t splits_max) {
  Pieces pieces;
  text = trim_start(text);
  while (!text.empty()) {
    if (pieces.size() == splits_max) {
      pieces.push_back(text);
      break;
    }
    std::size_t end = 0;
    while (end < text.size() && leading_space(text.substr(end)) == 0) {
      end += base::utf8::decode(text.substr(end)).length;
    }
    pieces.push_back(text.substr(0, end));
    text = trim_start(text.substr(end));
  }
  return pieces;
}

Pieces split_at(std::string_view text, std::string_view separator, std::size_t splits_max) {
  Pieces pieces;
  while (pieces.size() < splits_max) {
    const std::size_t at = find_text(text, separator);
    if (at == std::string_view::npos) break;
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  pieces.push_back(text);
  return pieces;
}

std::vector<char32_t> characters(std::string_view text) {
  std::vector<char32_t> result;
  while (!text.empty()) {
    const base::utf8::Decoded decoded = base::utf8::decode(text);
    result.push_back(decoded.code_point);
    text.remove_prefix(decoded.length);
  }
  return result;
}

std::string_view strip_characters(std::string_view text, const std::vector<char32_t>& set,
                                  StripSides sides) {
  const auto in_set = [&](std::string_view character) {
    return std::find(set.begin(), set.end(), base::utf8::decode(character).code_point) != set.end();
  };
  const std::vector<std::size_t> starts = character_offsets(text);
  std::size_t begin = 0;
  std::size_t end = starts.size() - 1;
  while (sides != StripSides::kRight && begin < end && in_set(text.substr(starts[begin]))) ++begin;
  while (sides != StripSides::kLeft && begin < end && in_set(text.substr(starts[end - 1]))) --end;
  return text.substr(starts[begin], starts[end] - starts[begin]);
}

/// A count argument: none, absent and negative mean no limit.
Result<std::size_t> limit_argument(const Value* value, std::string_view function) {
  if (value == nullptr || value->is_null()) return kNoLimit;
  if (!value->is_int()) return broken(concat({"the count of ", function, "() must be an integer"}));
  return value->as_int() < 0 ? kNoLimit : static_cast<std::size_t>(value->as_int());
}

/// Replacing the empty text inserts between all characters.
std::string spread(std::string_view text, std::string_view inserted, std::size_t count) {
  std::string out;
  const std::vector<std::size_t> starts = character_offsets(text);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (i < count) out += inserted;
    if (i + 1 < starts.size()) out += text.substr(starts[i], starts[i + 1] - starts[i]);
  }
  return out;
}

}  // namespace

Result<Value> strip_text(Interpreter& in, std::string_view text, const Arguments& arguments,
                         StripSides sides) {
  CONCLAVE_TRY_VOID(in.budget().scan(text.size()));
  const Value* set = arguments.find(0, "chars");
  if (set != nullptr && !set->is_null()) {
    if (!set->is_string()) return broken("strip() needs a string of characters");
    const std::vector<char32_t> characters_to_strip = characters(set->as_string());
    CONCLAVE_TRY_VOID(in.budget().allocate(text.size() * sizeof(std::size_t)));
    CONCLAVE_TRY_VOID(in.budget().step((text.size() + 1) * characters_to_strip.size() / 8));
    return in.make_text(std::string(strip_characters(text, characters_to_strip, sides)));
  }
  if (sides != StripSides::kRight) text = trim_start(text);
  if (sides != StripSides::kLeft) text = trim_end(text);
  return in.make_text(std::string(text));
}

Result<Value> split_text(Interpreter& in, std::string_view text, const Arguments& arguments) {
  CONCLAVE_TRY_VOID(in.budget().scan(text.size()));
  const Value* separator = arguments.find(0, "sep");
  CONCLAVE_TRY(const std::size_t limit, limit_argument(arguments.find(1, "maxsplit"), "split"));
  Pieces pieces;
  if (separator == nullptr || separator->is_null()) {
    pieces = split_at_space(text, limit);
  } else if (!separator->is_string()) {
    return broken("the separator of split() must be a string");
  } else if (separator->as_string().empty()) {
    return broken("the separator of split() is empty");
  } else {
    pieces = split_at(text, separator->as_string(), limit);
  }
  Array list;
  for (const std::string_view piece : pieces) {
    CONCLAVE_TRY(Value value, in.make_text(std::string(piece)));
    list.push_back(std::move(value));
  }
  return in.make_list(std::move(list));
}

Result<Value> replace_text(Interpreter& in, std::string_view text, const Arguments& arguments) {
  const Value* from = arguments.find(0, "old");
  const Value* to = arguments.find(1, "new");
  if (from == nullptr || to == nullptr || !from->is_string() || !to->is_string()) {
    return broken("replace() needs two strings");
  }
  CONCLAVE_TRY(const std::size_t limit, limit_argument(arguments.find(2, "count"), "replace"));
  CONCLAVE_TRY_VOID(in.budget().scan(text.size()));
  const std::string_view old_text = from->as_string();
  const std::string_view new_text = to->as_string();
  if (old_text.empty()) {
    const std::size_t places = std::min(limit, text.size() + 1);
    CONCLAVE_TRY_VOID(in.budget().allocate(places * (new_text.size() + sizeof(std::size_t))));
    return in.make_text(spread(text, new_text, limit));
  }
  std::string out;
  std::size_t replaced = 0;
  std::size_t at = 0;
  while (replaced < limit) {
    const std::size_t found = find_text(text, old_text, at);
    if (found == std::string_view::npos) break;
    CONCLAVE_TRY_VOID(in.budget().allocate(new_text.size()));
    out += text.substr(at, found - at);
    out += new_text;
    at = found + old_text.size();
    ++replaced;
  }
  out += text.substr(at);
  return in.make_text(std::move(out));
}

}  // namespace conclave::jinja
