#include "conclave/base/text.hpp"

#include "conclave/base/utf8.hpp"

namespace conclave::base {

std::string printable(std::string_view text) {
  std::string out = utf8::sanitize(text.substr(0, kShownBytes));
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) c = '?';
  }
  return text.size() > kShownBytes ? out + "..." : out;
}

std::string shown(std::string_view text) { return "'" + printable(text) + "'"; }

}  // namespace conclave::base
