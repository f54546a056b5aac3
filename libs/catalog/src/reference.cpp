#include "conclave/catalog/reference.hpp"

#include <algorithm>
#include <charconv>
#include <regex>

#include "conclave/base/text.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

// By hand: the C locale's isalnum depends on the process.
bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool is_name_char(char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; }

// `text` as a name, with one '-' for each run of what a name may not have; empty if nothing is
// left.
std::string made_name(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (is_name_char(lower) && lower != '-') {
      name += lower;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
    if (name.size() == kNameCharsMax) break;
  }
  const auto first = std::find_if(name.begin(), name.end(), is_letter_or_digit);
  name.erase(name.begin(), first);
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name;
}

// "x-00001-of-00003.gguf" -> "x".
std::string model_of_file(const std::filesystem::path& file) {
  std::string stem = file.filename().string();
  if (stem.ends_with(".gguf")) stem.resize(stem.size() - 5);
  static const std::regex kPart("-[0-9]{5}-of-[0-9]{5}$");
  return std::regex_replace(stem, kPart, "");
}

}  // namespace

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameCharsMax && is_letter_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(), is_name_char);
}

base::Status check_name(std::string_view what, std::string_view text) {
  if (is_name(text)) return {};
  return fail(ErrorCode::kInvalidArgument, "the " + std::string(what) + " " + base::shown(text) +
                                               " is not [a-z0-9][a-z0-9._-]{0,63}");
}

Result<Reference> parse_reference(std::string_view text) {
  const auto wrong = [text] {
    return fail(ErrorCode::kInvalidArgument,
                base::shown(text) + " is none of name, name@alias and name:version, where names " +
                    "are [a-z0-9][a-z0-9._-]{0,63} and a version is a number from 1");
  };
  const std::size_t mark = text.find_first_of("@:");
  Reference reference;
  reference.name = text.substr(0, mark);
  if (!is_name(reference.name)) return wrong();
  if (mark == std::string_view::npos) return reference;

  const std::string_view rest = text.substr(mark + 1);
  if (text[mark] == '@') {
    if (!is_name(rest)) return wrong();
    reference.alias = rest;
    return reference;
  }
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), reference.version);
  if (error != std::errc() || end != rest.data() + rest.size() || reference.version == 0) {
    return wrong();
  }
  return reference;
}

std::string format_reference(std::string_view name, std::uint32_t version) {
  return std::string(name) + ":" + std::to_string(version);
}

Result<std::string> derive_name(std::string_view general_name, const std::filesystem::path& file) {
  for (const std::string& name : {made_name(general_name), made_name(model_of_file(file))}) {
    if (!name.empty()) return name;
  }
  return fail(ErrorCode::kInvalidArgument, "neither the model's own name " +
                                               base::shown(general_name) +
                                               " nor that of its file makes a name: give it one");
}

}  // namespace conclave::catalog
