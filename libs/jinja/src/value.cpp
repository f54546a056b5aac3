#include "conclave/jinja/value.hpp"

#include <algorithm>
#include <cmath>

#include "conclave/base/check.hpp"

namespace conclave::jinja {
namespace {

// Below this many keys a linear search beats hashing; most JSON objects of a chat stay below.
constexpr std::size_t kLinearKeysMax = 12;

}  // namespace

struct Value::ArrayBox {
  Array items;
  std::size_t depth = 1;
  bool tuple = false;
};

struct Value::ObjectBox {
  Object object;
  std::size_t depth = 1;
};

namespace {

std::size_t depth_of(const Array& items) {
  std::size_t deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.depth());
  return deepest + 1;
}

std::size_t depth_of(const Object& object) {
  std::size_t deepest = 0;
  for (const auto& [key, value] : object.entries()) deepest = std::max(deepest, value.depth());
  return deepest + 1;
}

}  // namespace

Value::Value() noexcept = default;
Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;
Value::~Value() = default;

Value::Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}

Value::Value(Array items) {
  const std::size_t depth = depth_of(items);
  data_ = std::make_shared<const ArrayBox>(ArrayBox{std::move(items), depth, false});
}

Value::Value(Object object) {
  const std::size_t depth = depth_of(object);
  data_ = std::make_shared<const ObjectBox>(ObjectBox{std::move(object), depth});
}

Value Value::tuple(Array items) {
  const std::size_t depth = depth_of(items);
  Value value;
  value.data_ = std::make_shared<const ArrayBox>(ArrayBox{std::move(items), depth, true});
  return value;
}

Value::Type Value::type() const {
  static constexpr Type kTypes[] = {Type::kUndefined, Type::kNull,    Type::kBool,  Type::kInt,
                                    Type::kFloat,     Type::kString,  Type::kArray, Type::kObject,
                                    Type::kNamespace, Type::kCallable};
  const Type type = kTypes[data_.index()];
  if (type != Type::kArray) return type;
  return std::get<std::shared_ptr<const ArrayBox>>(data_)->tuple ? Type::kTuple : Type::kArray;
}

bool Value::as_bool() const {
  CONCLAVE_CHECK(is_bool());
  return std::get<bool>(data_);
}

std::int64_t Value::as_int() const {
  CONCLAVE_CHECK(is_int());
  return std::get<std::int64_t>(data_);
}

double Value::as_float() const {
  CONCLAVE_CHECK(is_float());
  return std::get<double>(data_);
}

const std::string& Value::as_string() const {
  CONCLAVE_CHECK(is_string());
  return *std::get<std::shared_ptr<const std::string>>(data_);
}

const Array& Value::as_array() const {
  CONCLAVE_CHECK(is_array());
  return std::get<std::shared_ptr<const ArrayBox>>(data_)->items;
}

const Object& Value::as_object() const {
  CONCLAVE_CHECK(is_object());
  return std::get<std::shared_ptr<const ObjectBox>>(data_)->object;
}

Namespace& Value::as_namespace() const {
  CONCLAVE_CHECK(is_namespace());
  return *std::get<std::shared_ptr<Namespace>>(data_);
}

const Callable& Value::as_callable() const {
  CONCLAVE_CHECK(is_callable());
  return *std::get<std::shared_ptr<const Callable>>(data_);
}

bool Value::truthy() const {
  switch (type()) {
    case Type::kUndefined:
    case Type::kNull:
      return false;
    case Type::kBool:
      return as_bool();
    case Type::kInt:
      return as_int() != 0;
    case Type::kFloat:
      return as_float() != 0.0 && !std::isnan(as_float());
    case Type::kString:
      return !as_string().empty();
    case Type::kArray:
    case Type::kTuple:
      return !as_array().empty();
    case Type::kObject:
      return !as_object().empty();
    case Type::kNamespace:
    case Type::kCallable:
      return true;
  }
  return false;
}

std::size_t Value::depth() const {
  if (is_array()) return std::get<std::shared_ptr<const ArrayBox>>(data_)->depth;
  if (is_object()) return std::get<std::shared_ptr<const ObjectBox>>(data_)->depth;
  return 0;
}

std::string_view type_name(const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined:
      return "undefined";
    case Value::Type::kNull:
      return "none";
    case Value::Type::kBool:
      return "boolean";
    case Value::Type::kInt:
      return "integer";
    case Value::Type::kFloat:
      return "float";
    case Value::Type::kString:
      return "string";
    case Value::Type::kArray:
      return "list";
    case Value::Type::kTuple:
      return "tuple";
    case Value::Type::kObject:
      return "dict";
    case Value::Type::kNamespace:
      return "namespace";
    case Value::Type::kCallable:
      return "function";
  }
  return "unknown";
}

Object::Object(std::initializer_list<Entry> entries) {
  for (const Entry& entry : entries) set(entry.first, entry.second);
}

std::size_t Object::index_of(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find(key);
    return found == index_.end() ? entries_.size() : found->second;
  }
  std::size_t at = 0;
  while (at < entries_.size() && entries_[at].first != key) ++at;
  return at;
}

void Object::set(std::string key, Value value) {
  const std::size_t at = index_of(key);
  if (at < entries_.size()) {
    entries_[at].second = std::move(value);
    return;
  }
  if (!index_.empty()) index_.emplace(key, at);
  entries_.emplace_back(std::move(key), std::move(value));
  if (index_.empty() && entries_.size() > kLinearKeysMax) {
    for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
  }
}

const Value* Object::find(std::string_view key) const {
  const std::size_t at = index_of(key);
  return at < entries_.size() ? &entries_[at].second : nullptr;
}

}  // namespace conclave::jinja
