#include "json_writer.hpp"

#include <charconv>
#include <cmath>

#include "conclave/base/utf8.hpp"

namespace conclave::gateway {
namespace {

void append_escaped(std::string& out, char byte) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (byte) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  const auto value = static_cast<unsigned char>(byte);
  out += "\\u00";
  out.push_back(kHex[value >> 4]);
  out.push_back(kHex[value & 0xF]);
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  std::size_t plain = 0;  // where the bytes that go as they are begin
  std::size_t at = 0;
  const auto flush = [&] { out.append(text.substr(plain, at - plain)); };
  while (at < text.size()) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte >= 0x80) {
      const base::utf8::Decoded decoded = base::utf8::decode(text.substr(at));
      if (!decoded.valid) {
        flush();
        base::utf8::append(out, base::utf8::kReplacement);
        plain = at + decoded.length;
      }
      at += decoded.length;
    } else if (byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7F) {
      flush();
      append_escaped(out, text[at]);
      plain = ++at;
    } else {
      ++at;
    }
  }
  flush();
  out.push_back('"');
}

void append_json_float(std::string& out, float number) {
  if (std::isnan(number)) {
    out += "null";
    return;
  }
  if (std::isinf(number)) number = std::copysign(9999.0f, number);
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, double{number}).ptr;
  const std::string_view shortest(digits, static_cast<std::size_t>(end - digits));
  out += shortest;
  // Some clients tell integers from floats by the point.
  if (shortest.find_first_of(".e") == std::string_view::npos) out += ".0";
}

}  // namespace conclave::gateway
