// Writes JSON text straight into a string, without a tree in between: a token's event is written
// once for each token. Commas are its business; that keys and ends fit is the caller's.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::gateway {

/// Appends `text` in quotation marks. What is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// Appends the shortest digits that a reader of doubles reads back as exactly this number. What
/// JSON cannot say becomes -9999.0 (as in OpenAI's answers, where a log probability is minus
/// infinity) or null (NaN).
void append_json_float(std::string& out, float number);

/// Borrows the string that it appends to.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }

  JsonWriter& key(std::string_view name) {
    text(name);
    out_.push_back(':');
    comma_ = false;
    return *this;
  }
  JsonWriter& text(std::string_view value) {
    separate();
    append_json_string(out_, value);
    return *this;
  }
  template <std::integral T>
  JsonWriter& number(T value) {
    separate();
    out_ += std::to_string(value);
    return *this;
  }
  JsonWriter& number(float value) {
    separate();
    append_json_float(out_, value);
    return *this;
  }
  JsonWriter& boolean(bool value) { return raw(value ? "true" : "false"); }
  JsonWriter& null() { return raw("null"); }
  /// A list of items that are JSON already: `1,2,3`.
  JsonWriter& list(std::string_view items) { return open('[').raw_items(items).close(']'); }
  /// JSON that is written already: one value.
  JsonWriter& raw(std::string_view value) {
    separate();
    out_ += value;
    return *this;
  }

 private:
  JsonWriter& open(char bracket) {
    separate();
    out_.push_back(bracket);
    comma_ = false;
    return *this;
  }
  JsonWriter& close(char bracket) {
    out_.push_back(bracket);
    comma_ = true;
    return *this;
  }
  JsonWriter& raw_items(std::string_view items) {
    out_ += items;
    return *this;
  }
  void separate() {
    if (comma_) out_.push_back(',');
    comma_ = true;
  }

  std::string& out_;
  bool comma_ = false;
};

}  // namespace conclave::gateway
