#include "conclave/base/utf8.hpp"

namespace conclave::base::utf8 {
namespace {

// What the first byte of a sequence promises: its length and the range of the second byte
// (Unicode 15, table 3-7). Later bytes are 80..BF. Length 0: no sequence starts so.
struct Lead {
  unsigned char length = 0;
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

constexpr Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// How many bytes of `text` fit the sequence that its first byte promises.
std::size_t matching_prefix(std::string_view text, Lead lead) {
  std::size_t n = 1;
  while (n < lead.length && n < text.size()) {
    const auto byte = static_cast<unsigned char>(text[n]);
    const unsigned char low = n == 1 ? lead.second_min : 0x80;
    const unsigned char high = n == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) break;
    ++n;
  }
  return n;
}

}  // namespace

Decoded decode(std::string_view text) {
  if (text.empty()) return {};
  const auto first = static_cast<unsigned char>(text[0]);
  const Lead lead = lead_of(first);
  if (lead.length == 1) return {first, 1, true};
  if (lead.length == 0) return {kReplacement, 1, false};
  const std::size_t n = matching_prefix(text, lead);
  if (n < lead.length) return {kReplacement, n, false};
  char32_t code_point = first & (0x7Fu >> lead.length);
  for (std::size_t i = 1; i < n; ++i) {
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  }
  return {code_point, n, true};
}

void append(std::string& out, char32_t c) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80u | ((c >> shift) & 0x3Fu)));
  };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0u | (c >> 6)));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0u | (c >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0u | (c >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::size_t incomplete_suffix(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view suffix = text.substr(text.size() - back);
    const Lead lead = lead_of(static_cast<unsigned char>(suffix[0]));
    if (lead.length == 0) continue;  // a continuation byte, or one that starts nothing
    const bool open = lead.length > back && matching_prefix(suffix, lead) == back;
    return open ? back : 0;
  }
  return 0;
}

bool valid(std::string_view text) {
  while (!text.empty()) {
    const Decoded next = decode(text);
    if (!next.valid) return false;
    text.remove_prefix(next.length);
  }
  return true;
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded next = decode(text);
    append(out, next.code_point);
    text.remove_prefix(next.length);
  }
  return out;
}

}  // namespace conclave::base::utf8
