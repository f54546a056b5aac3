// The schemas and the owned structs are two lists of the same things: here they are compared by the
// schemas' own description of themselves.
#include <capnp/dynamic.h>
#include <capnp/message.h>
#include <capnp/schema.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>

#include "codecs.hpp"
#include "testing_samples.hpp"

namespace conclave::wire {
namespace {

// "tokenEvents" and "TokenEvents" as "token_events".
std::string snake_case(kj::StringPtr name) {
  std::string snake;
  for (const char letter : name) {
    const bool upper = std::isupper(static_cast<unsigned char>(letter)) != 0;
    if (upper && !snake.empty()) snake += '_';
    snake += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return snake;
}

template <class Enum>
std::map<std::uint16_t, std::string> enumerants() {
  std::map<std::uint16_t, std::string> names;
  for (const auto enumerant : capnp::Schema::from<Enum>().getEnumerants()) {
    names[enumerant.getOrdinal()] = snake_case(enumerant.getProto().getName());
  }
  return names;
}

// The names of a message's schema fields that are not at their default in `value` or, if lists and
// structs within hold other structs, in any of those: by struct.
using FieldsSet = std::map<std::string, std::set<std::string>>;

void collect(capnp::DynamicStruct::Reader value, FieldsSet& set, FieldsSet& all);

void collect(capnp::DynamicValue::Reader value, FieldsSet& set, FieldsSet& all) {
  if (value.getType() == capnp::DynamicValue::STRUCT) {
    collect(value.as<capnp::DynamicStruct>(), set, all);
  } else if (value.getType() == capnp::DynamicValue::LIST) {
    for (const auto element : value.as<capnp::DynamicList>()) collect(element, set, all);
  }
}

void collect(capnp::DynamicStruct::Reader value, FieldsSet& set, FieldsSet& all) {
  const std::string type = value.getSchema().getProto().getDisplayName().cStr();
  all[type];
  for (const auto field : value.getSchema().getFields()) {
    // A member of a union without a value is set by being chosen; it is the default here.
    if (field.getType().isVoid()) continue;
    const std::string name = field.getProto().getName().cStr();
    all[type].insert(name);
    if (!value.has(field, capnp::HasMode::NON_DEFAULT)) continue;
    set[type].insert(name);
    collect(value.get(field), set, all);
  }
}

template <class T>
void collect_message(const T& message, FieldsSet& set, FieldsSet& all) {
  if constexpr (!std::is_same_v<T, std::monostate>) {
    capnp::MallocMessageBuilder builder;
    codec::Encoder encoder;
    const auto root = builder.initRoot<typename codec::SchemaOf<T>::type>();
    write(encoder, root, message);
    collect(capnp::DynamicStruct::Reader(root.asReader()), set, all);
  }
}

TEST(SchemaTest, NumbersTheTypesAsMessageDoes) {
  const auto types = enumerants<schema::MessageType>();
  ASSERT_EQ(types.size(), kMessageTypes);
  for (const auto& [type, name] : types) EXPECT_EQ(type_name(type), name);
}

TEST(SchemaTest, NamesTheStructsAsTheTypes) {
  for (const Message& message : testing_samples::messages()) {
    std::visit(
        [&]<class T>(const T&) {
          if constexpr (!std::is_same_v<T, std::monostate>) {
            using Schema = typename codec::SchemaOf<T>::type;
            const auto proto = capnp::Schema::from<Schema>().getProto();
            const auto name = proto.getDisplayName().slice(proto.getDisplayNamePrefixLength());
            EXPECT_EQ(snake_case(name), type_name(type_of(message)));
          }
        },
        message);
  }
}

TEST(SchemaTest, NumbersErrorsAndRolesAsOurs) {
  const auto codes = enumerants<schema::ErrorCode>();
  ASSERT_EQ(codes.size(), static_cast<std::size_t>(base::kErrorCodeCount) + 1);
  for (const auto& [number, name] : codes) {
    const auto ours = number == 0 ? "unset" : base::to_string(static_cast<base::ErrorCode>(number));
    EXPECT_EQ(ours, name);
  }
  const auto roles = enumerants<schema::NodeRole>();
  ASSERT_EQ(roles.size(), static_cast<std::size_t>(kNodeRoleCount) + 1);
  for (const auto& [number, name] : roles) {
    std::string ours(number == 0 ? "unset" : to_string(static_cast<NodeRole>(number)));
    std::replace(ours.begin(), ours.end(), '-', '_');
    EXPECT_EQ(ours, name);
  }
}

TEST(SchemaTest, HasNoFieldThatTheEncoderForgets) {
  FieldsSet set;
  FieldsSet all;
  for (const Message& message : testing_samples::messages()) {
    std::visit([&](const auto& body) { collect_message(body, set, all); }, message);
  }
  collect_message(testing_samples::envelope(), set, all);

  EXPECT_GT(all.size(), kMessageTypes);  // and the structs within
  for (const auto& [type, fields] : all) {
    for (const std::string& field : fields) {
      EXPECT_TRUE(set[type].contains(field)) << type << "." << field;
    }
  }
}

}  // namespace
}  // namespace conclave::wire
