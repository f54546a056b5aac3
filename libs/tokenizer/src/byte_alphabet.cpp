#include "byte_alphabet.hpp"

#include <cstdint>

#include "conclave/base/utf8.hpp"

namespace conclave::tokenizer {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    alphabet[byte] = stands_for_itself(byte) ? char32_t{byte} : next++;
  }
  return alphabet;
}

constexpr std::array<char32_t, 256> kAlphabet = make_alphabet();
constexpr std::size_t kEnd = 0x100 + 68;  // one past the last character of the alphabet

// Character -> byte; -1 for the Latin-1 characters that stand for nothing.
constexpr std::array<std::int16_t, kEnd> make_inverse() {
  std::array<std::int16_t, kEnd> inverse{};
  for (auto& entry : inverse) entry = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    inverse[kAlphabet[byte]] = static_cast<std::int16_t>(byte);
  }
  return inverse;
}

constexpr std::array<std::int16_t, kEnd> kInverse = make_inverse();

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() { return kAlphabet; }

std::optional<std::string> bytes_of(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const base::utf8::Decoded next = base::utf8::decode(text);
    if (!next.valid || next.code_point >= kEnd || kInverse[next.code_point] < 0) return {};
    bytes.push_back(static_cast<char>(kInverse[next.code_point]));
    text.remove_prefix(next.length);
  }
  return bytes;
}

std::string spell_bytes(std::string_view bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char byte : bytes) {
    base::utf8::append(text, kAlphabet[static_cast<unsigned char>(byte)]);
  }
  return text;
}

}  // namespace conclave::tokenizer
