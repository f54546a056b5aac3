#include "caf_message.hpp"

#include <caf/all.hpp>
#include <typeinfo>
#include <utility>
#include <variant>

namespace conclave::fabric {

namespace {

template <class T>
inline constexpr bool kGoesToActors = caf::allowed_unsafe_message_type<T>::value;

template <class T>
bool take_if(caf::type_erased_tuple& content, const std::type_info& type,
             std::optional<wire::Message>& message) {
  if constexpr (kGoesToActors<T>) {
    if (type != typeid(T)) return false;
    message.emplace(content.move_if_unshared<T>(0));
    return true;
  } else {
    return false;
  }
}

template <std::size_t... I>
std::optional<wire::Message> take_any(caf::type_erased_tuple& content, const std::type_info& type,
                                      std::index_sequence<I...> /*alternatives*/) {
  std::optional<wire::Message> message;
  (take_if<std::variant_alternative_t<I, wire::Message>>(content, type, message) || ...);
  return message;
}

}  // namespace

std::optional<wire::Message> take_message(caf::type_erased_tuple& content) {
  if (content.empty()) return wire::Message{};
  if (content.size() != 1) return std::nullopt;
  const std::type_info* type = content.type(0).second;  // null for CAF's own types
  if (type == nullptr) return std::nullopt;
  return take_any(content, *type, std::make_index_sequence<wire::kMessageTypes>());
}

caf::mailbox_element_ptr make_element(caf::strong_actor_ptr sender, caf::message_id id,
                                      wire::Message message) {
  return std::visit(
      [&]<class T>(T&& value) -> caf::mailbox_element_ptr {
        using Value = std::decay_t<T>;
        if constexpr (std::is_same_v<Value, std::monostate>) {
          return caf::make_mailbox_element(std::move(sender), id, {}, caf::message());
        } else if constexpr (kGoesToActors<Value>) {
          return caf::make_mailbox_element(std::move(sender), id, {}, std::forward<T>(value));
        } else {
          return nullptr;
        }
      },
      std::move(message));
}

}  // namespace conclave::fabric
