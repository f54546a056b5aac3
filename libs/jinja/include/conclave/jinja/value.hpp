// The values a template computes with: what JSON can say, plus undefined, tuples, namespaces and
// callables. Cheap to copy (a tag and one shared pointer); everything but a namespace is immutable,
// so values may be read from any thread. No I/O and no template syntax here.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace conclave::jinja {

class Value;
class Object;
class Callable;    // private: macros, functions, bound methods
struct Namespace;  // private: the one mutable value, made by namespace() inside a template

using Array = std::vector<Value>;

/// Undefined when default-constructed. Containers know how deep they nest, because printing,
/// comparing and destroying recurse: whoever builds values checks `depth()` against its own bound.
class Value {
 public:
  enum class Type : std::uint8_t {
    kUndefined,
    kNull,
    kBool,
    kInt,
    kFloat,
    kString,
    kArray,
    kTuple,
    kObject,
    kNamespace,
    kCallable,
  };

  Value() noexcept;
  // Out of line: they are large, and gcc 12 misreads them when it inlines them under sanitizers.
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();

  Value(std::nullptr_t) : data_(nullptr) {}
  Value(bool value) : data_(value) {}
  Value(double value) : data_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T value) : data_(static_cast<std::int64_t>(value)) {}
  Value(std::string value);
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(Array items);
  Value(Object object);
  Value(std::shared_ptr<Namespace> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Callable> value) : data_(std::move(value)) {}

  /// An array that remembers that it was written `(a, b)`.
  static Value tuple(Array items);

  [[nodiscard]] Type type() const;
  [[nodiscard]] bool is_undefined() const { return type() == Type::kUndefined; }
  [[nodiscard]] bool is_null() const { return type() == Type::kNull; }
  [[nodiscard]] bool is_bool() const { return type() == Type::kBool; }
  [[nodiscard]] bool is_int() const { return type() == Type::kInt; }
  [[nodiscard]] bool is_float() const { return type() == Type::kFloat; }
  [[nodiscard]] bool is_number() const { return is_int() || is_float(); }
  [[nodiscard]] bool is_string() const { return type() == Type::kString; }
  [[nodiscard]] bool is_array() const { return type() == Type::kArray || type() == Type::kTuple; }
  [[nodiscard]] bool is_tuple() const { return type() == Type::kTuple; }
  [[nodiscard]] bool is_object() const { return type() == Type::kObject; }
  [[nodiscard]] bool is_namespace() const { return type() == Type::kNamespace; }
  [[nodiscard]] bool is_callable() const { return type() == Type::kCallable; }

  /// The content; asking for another type than `type()` is a bug of the caller and aborts.
  [[nodiscard]] bool as_bool() const;
  [[nodiscard]] std::int64_t as_int() const;
  [[nodiscard]] double as_float() const;
  [[nodiscard]] const std::string& as_string() const;
  [[nodiscard]] const Array& as_array() const;  // arrays and tuples
  [[nodiscard]] const Object& as_object() const;
  [[nodiscard]] Namespace& as_namespace() const;
  [[nodiscard]] const Callable& as_callable() const;

  /// False for undefined, null, false, 0, NaN, "" and empty containers.
  [[nodiscard]] bool truthy() const;

  /// 0 for scalars and namespaces, 1 + the deepest element for containers.
  [[nodiscard]] std::size_t depth() const;

 private:
  struct ArrayBox;
  struct ObjectBox;

  std::variant<std::monostate, std::nullptr_t, bool, std::int64_t, double,
               std::shared_ptr<const std::string>, std::shared_ptr<const ArrayBox>,
               std::shared_ptr<const ObjectBox>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Callable>>
      data_;
};

/// "string", "array", "undefined"...: for messages.
std::string_view type_name(const Value& value);

/// String keys in insertion order; setting a present key keeps its place.
class Object {
 public:
  using Entry = std::pair<std::string, Value>;

  Object() = default;
  Object(std::initializer_list<Entry> entries);

  void set(std::string key, Value value);

  /// nullptr if absent. Constant time above a handful of keys.
  [[nodiscard]] const Value* find(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }

 private:
  /// size() if absent.
  [[nodiscard]] std::size_t index_of(std::string_view key) const;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };

  std::vector<Entry> entries_;
  // Filled only once linear search stops being the faster one.
  std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>> index_;
};

}  // namespace conclave::jinja
