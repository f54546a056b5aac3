#include "print.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "namespace.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

using base::Status;

// Namespaces can contain themselves; nothing else reaches this depth.
constexpr std::size_t kPrintDepthMax = kValueDepthMax + 20;

void append_unicode_escape(std::string& out, std::uint32_t unit) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) {
    out.push_back(kHex[(unit >> static_cast<unsigned>(shift)) & 0xFU]);
  }
}

void append_escaped(std::string& out, char32_t c, bool ascii) {
  switch (c) {
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
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    default:
      break;
  }
  const bool escape = c < 0x20 || (ascii && c >= 0x7F);
  if (!escape) {
    base::utf8::append(out, c);
  } else if (c < 0x10000) {
    append_unicode_escape(out, c);
  } else {
    append_unicode_escape(out, 0xD800 + ((c - 0x10000) >> 10U));
    append_unicode_escape(out, 0xDC00 + ((c - 0x10000) & 0x3FFU));
  }
}

std::string quoted(std::string_view text, bool ascii) {
  std::string out = "\"";
  out.reserve(text.size() + 2);
  while (!text.empty()) {
    const base::utf8::Decoded decoded = base::utf8::decode(text);
    append_escaped(out, decoded.code_point, ascii);
    text.remove_prefix(decoded.length);
  }
  out.push_back('"');
  return out;
}

class JsonWriter {
 public:
  JsonWriter(const TextSink& sink, const JsonStyle& style) : sink_(sink), style_(style) {}

  Status write(const Value& value, std::size_t depth) {
    CONCLAVE_TRY_VOID(sink_.budget.step());
    switch (value.type()) {
      case Value::Type::kUndefined:
        return sink_.append(style_.undefined_as_null ? "null" : "undefined");
      case Value::Type::kNull:
        return sink_.append("null");
      case Value::Type::kBool:
        return sink_.append(value.as_bool() ? "true" : "false");
      case Value::Type::kInt:
        return sink_.append(std::to_string(value.as_int()));
      case Value::Type::kFloat:
        return sink_.append(std::isfinite(value.as_float()) ? number_text(value.as_float())
                                                            : "null");
      case Value::Type::kString:
        return sink_.append(quoted(value.as_string(), style_.ascii));
      case Value::Type::kTuple:
        if (!style_.tuples) return refuse("a tuple");
        [[fallthrough]];
      case Value::Type::kArray:
        return write_list(value.as_array(), depth);
      case Value::Type::kObject:
        return write_entries(value.as_object(), depth);
      case Value::Type::kNamespace:
        return write_entries(value.as_namespace().entries, depth);
      case Value::Type::kCallable:
        break;
    }
    return refuse("a function");
  }

 private:
  static tl::unexpected<base::Error> refuse(std::string_view what) {
    return base::fail(base::ErrorCode::kFailedPrecondition, concat({what, " cannot become text"}));
  }

  Status open(char bracket, std::size_t depth) {
    if (depth >= kPrintDepthMax) {
      return base::fail(base::ErrorCode::kOverloaded, "a value nests too deeply to print");
    }
    return sink_.append({&bracket, 1});
  }

  Status new_line(std::size_t depth) {
    if (style_.indent == 0) return {};
    return sink_.append(concat({"\n", std::string(style_.indent * depth, ' ')}));
  }

  Status write_list(const Array& items, std::size_t depth) {
    CONCLAVE_TRY_VOID(open('[', depth));
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) CONCLAVE_TRY_VOID(sink_.append(style_.item_separator));
      CONCLAVE_TRY_VOID(new_line(depth + 1));
      CONCLAVE_TRY_VOID(write(items[i], depth + 1));
    }
    if (!items.empty()) CONCLAVE_TRY_VOID(new_line(depth));
    return sink_.append("]");
  }

  Status write_entries(const Object& object, std::size_t depth) {
    CONCLAVE_TRY_VOID(open('{', depth));
    std::vector<const Object::Entry*> entries;
    for (const Object::Entry& entry : object.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::sort(entries.begin(), entries.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) CONCLAVE_TRY_VOID(sink_.append(style_.item_separator));
      CONCLAVE_TRY_VOID(new_line(depth + 1));
      CONCLAVE_TRY_VOID(sink_.append(quoted(entries[i]->first, style_.ascii)));
      CONCLAVE_TRY_VOID(sink_.append(style_.key_separator));
      CONCLAVE_TRY_VOID(write(entries[i]->second, depth + 1));
    }
    if (!entries.empty()) CONCLAVE_TRY_VOID(new_line(depth));
    return sink_.append("}");
  }

  const TextSink& sink_;
  const JsonStyle& style_;
};

}  // namespace

Status TextSink::append(std::string_view piece) const {
  if (piece.size() > bytes_max || text.size() > bytes_max - piece.size()) {
    return base::fail(base::ErrorCode::kOverloaded, "the template prints too much");
  }
  CONCLAVE_TRY_VOID(budget.allocate(piece.size()));
  text.append(piece);
  return {};
}

Status write_json(const TextSink& sink, const Value& value, const JsonStyle& style) {
  return JsonWriter(sink, style).write(value, 0);
}

Status print(const TextSink& sink, const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined:
    case Value::Type::kNull:
      return {};
    case Value::Type::kString:
      return sink.append(value.as_string());
    case Value::Type::kFloat:
      return sink.append(float_text(value.as_float()));
    default: {
      JsonStyle style;
      style.undefined_as_null = false;
      style.tuples = false;
      return write_json(sink, value, style);
    }
  }
}

base::Result<std::string> operand_text(const Value& value, Budget& budget) {
  if (value.is_string()) return value.as_string();
  if (value.is_float()) return number_text(value.as_float());
  if (value.is_object() || value.is_namespace()) return std::string("[object Map]");
  std::string text;
  const TextSink sink{text, std::numeric_limits<std::size_t>::max(), budget};
  if (!value.is_array()) {
    CONCLAVE_TRY_VOID(print(sink, value));
    return text;
  }
  for (std::size_t i = 0; i < value.as_array().size(); ++i) {
    const Value& item = value.as_array()[i];
    if (i > 0) CONCLAVE_TRY_VOID(sink.append(","));
    const bool missing = item.is_null() || item.is_undefined();
    CONCLAVE_TRY_VOID(missing ? sink.append("undefined") : print(sink, item));
  }
  return text;
}

}  // namespace conclave::jinja
